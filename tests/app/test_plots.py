# SPDX-License-Identifier: Apache-2.0
"""Plots are pure: the data of an event in, the right numbers at the right place out."""

import numpy as np
import pytest

from app.ui.plots.kv_memory import CONTEXTS, GPU_GIGABYTES, kv_memory
from app.ui.plots.layer_errors import layer_errors
from app.ui.plots.rope_contribution import rope_contribution
from app.ui.plots.rope_meaning import meaning_of
from tests.app.conftest import HEADS, LAYERS, PAIRS, contribution, layer_rows


def test_the_heatmap_shows_layers_by_pairs_in_decades() -> None:
    """Colours are log10 of the scores summed over heads: head 1 scores twice head 0, so 3 x 10^-pair."""
    cells = rope_contribution(contribution()).data[0]
    assert np.asarray(cells.z).shape == (LAYERS, PAIRS)
    # float32 colours: seven digits
    np.testing.assert_allclose(np.asarray(cells.z)[0], np.log10(3.0) - np.arange(PAIRS), rtol=1e-6)
    one = rope_contribution(contribution(), head=0).data[0]
    np.testing.assert_allclose(np.asarray(one.z)[2], -np.arange(PAIRS), atol=1e-6)


def test_kept_pairs_are_outlined_per_head_or_for_any_head() -> None:
    """Head 0 keeps {0, 1}, head 1 keeps {0, 2}: summed, three pairs a layer are outlined."""
    assert _outlined(rope_contribution(contribution(), head=0)) == {0, 1}
    assert _outlined(rope_contribution(contribution(), head=1)) == {0, 2}
    assert _outlined(rope_contribution(contribution())) == {0, 1, 2}


def test_hover_says_value_share_of_heads_and_period() -> None:
    """What a colour cannot say is one hover away."""
    note = rope_contribution(contribution()).data[0].text[0][1]
    assert "contribution 0.3" in note
    assert f"kept in 1 of {HEADS} KV heads" in note
    assert "one turn every" in note


@pytest.mark.parametrize(
    ("meaning", "bar", "note"),
    [
        ("contribution", "E|q|·E|k|", "kept in 1 of 2 KV heads"),
        ("energy", "logit energy", "kept in 1 of 2 KV heads"),
        ("components", "logit energy", "kept in 1 of 2 components"),
        ("exact", "E|q|·E|k|", "exact"),
    ],
)
def test_the_heatmap_says_what_its_recipe_scored(meaning: str, bar: str, note: str) -> None:
    """A layout that drops nothing has no outline: an empty one would look like everything was dropped."""
    data = contribution() | {"meaning": meaning}
    figure = rope_contribution(data)
    assert figure.data[0].colorbar.title.text == bar
    assert note in figure.data[0].text[0][1]
    assert len(figure.data) == (1 if meaning == "exact" else 2)
    assert ("nothing is dropped" in meaning_of(data).caption) == (meaning == "exact")


def test_a_component_may_keep_more_pairs_than_another() -> None:
    """Rows of mixed recipes are ragged: three pairs of the first component, none of the second."""
    data = contribution() | {"meaning": "components", "kept": [[[0, 1, 2], []]] * LAYERS}
    assert _outlined(rope_contribution(data)) == {0, 1, 2}
    assert _outlined(rope_contribution(data, head=1)) == set()


def test_a_pair_that_contributes_nothing_can_be_drawn() -> None:
    """log10 of 0 would be a hole in the map; it takes the colour of the smallest value instead."""
    data = contribution()
    data["scores"] = [[[0.0] + [1.0] * (PAIRS - 1)] * HEADS] * LAYERS
    assert np.isfinite(np.asarray(rope_contribution(data).data[0].z)).all()
    data["scores"] = [[[0.0] * PAIRS] * HEADS] * LAYERS
    assert np.isfinite(np.asarray(rope_contribution(data).data[0].z)).all()


@pytest.mark.parametrize("batch", [1, 32])
def test_kv_memory_is_bytes_times_tokens_times_batch(batch: int) -> None:
    """Both lines, exactly; and a line for each common GPU."""
    figure = kv_memory(23_040, 7_200, batch)
    original, converted = figure.data
    assert list(original.y) == [23_040 * batch * tokens for tokens in CONTEXTS]
    assert list(converted.y) == [7_200 * batch * tokens for tokens in CONTEXTS]
    assert (original.name, converted.name) == ("original", "converted")
    assert [shape.y0 for shape in figure.layout.shapes] == [gigabytes * 1e9 for gigabytes in GPU_GIGABYTES]
    low, high = figure.layout.yaxis.range
    assert low < np.log10(min(converted.y))
    assert high > np.log10(max(*original.y, 80e9))


def test_layer_errors_draws_keys_and_values() -> None:
    """One point a layer and side."""
    keys, values = layer_errors(layer_rows()).data
    assert list(keys.x) == list(range(LAYERS))
    assert list(keys.y) == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert list(values.y) == [0.2] * LAYERS


def _outlined(figure: object) -> set[int]:
    """Pairs that have a rectangle around them in layer 0."""
    line = figure.data[1]  # type: ignore[attr-defined]
    corners = zip(line.x[::6], line.y[::6], strict=True)
    return {round(x) for x, y in corners if round(y) == 0}
