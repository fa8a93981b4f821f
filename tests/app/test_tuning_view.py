# SPDX-License-Identifier: Apache-2.0
"""What the tuning view says is what the estimate and the profile say; what a browser sends back is read."""

import pytest

from app.services.estimate import LayerTune
from app.services.tuning import LossTarget, PairView, RoomTarget, SizeTarget, Target
from app.ui.components.layer_bars import shown_layers
from app.ui.components.pair_map import shown_kept, shown_map
from app.ui.components.profile_offer import offer_label
from app.ui.components.sensitivity import sensitivity
from app.ui.components.targets import read_target
from app.ui.form import Form, initial
from app.ui.format import THIN, flops
from app.ui.strings import PAIRS_UNKNOWN
from app.ui.tuned import by_slider, of_pairs, of_ranks
from core.errors import SpecError

RANKS, SOLVED = (3, 9), (5, 7)
LAYERS = tuple(
    LayerTune(index=one, rope_dim=4, rank=RANKS[one], most_rank=20, cached_numbers=RANKS[one] + 4, loss=loss)
    for one, loss in enumerate((0.123456, None))
)


def test_the_bars_show_what_is_and_what_the_slider_gives() -> None:
    """Losses with three digits, what is cached beside the latent, and the slider's own ranks to compare."""
    shown = shown_layers(LAYERS, SOLVED, least=2)
    assert shown == {
        "solved": [5, 7],
        "most": [20, 20],
        "least": 2,
        "loss": [0.123, None],
        "rope": [4, 4],
        "rotary": [4, 4],
    }
    assert shown_layers((), (), 1)["solved"] == []


def test_ranks_and_pairs_by_hand_become_the_request() -> None:
    """Untouched, neither is said; a layout without rotary dims has no pairs to say."""
    pairs = [[[0, 2], [1]], [[3], [0, 1]]]
    form = Form(initial()).with_values(
        layout="latent+rope", layers=of_ranks(RANKS, [1]), pairs=of_pairs(pairs)
    )
    assert form.request["layer_ranks"] == [3, 9]
    assert form.request["rope_pairs"] == pairs
    assert form.locked == {1: 9}
    assert "rope_pairs" not in form.with_values(layout="pre-rope").request
    assert "layer_ranks" not in form.with_values(layers=by_slider()).request


@pytest.mark.parametrize("sent", [None, {}, {"ranks": []}, {"ranks": None, "locked": [3]}, "text"])
def test_what_holds_no_ranks_is_the_sliders(sent: object) -> None:
    """A browser of an older version, or one that was never asked."""
    form = Form(initial()).with_values(layers=sent)
    assert (form.layer_ranks, form.locked) == (None, {})


def test_the_heatmap_says_what_its_colours_mean() -> None:
    """Three digits a cell; periods in tokens; whether heads share the pairs; what the rule keeps, apart."""
    view = PairView(
        scores=(((0.123456, 2.0),),),
        kept=(((1,),),),
        inv_freq=(1.0, 0.5),
        meaning="components",
        is_shared=True,
    )
    shown = shown_map(view, "key")
    assert shown is not None
    assert shown["scores"] == [[[0.123, 2.0]]]
    assert shown["periods"] == ["about 6.28", "about 12.6"]
    assert (shown["drops"], shown["shared"], shown["row"]) == (True, True, "Component")
    assert shown_kept(view) == {"kept": [[[1]]]}
    exact = shown_map(view.model_copy(update={"meaning": "exact"}), "key")
    assert exact is not None
    assert not exact["drops"]
    assert shown_map(None, "key") == {"words": PAIRS_UNKNOWN}
    assert shown_kept(None) == {"kept": []}


def test_the_most_sensitive_layer_is_named() -> None:
    """The tallest bar, in words for those who do not see it; nothing where nothing is predicted."""
    shown = sensitivity([0.1, 0.4, None])
    assert "most in layer 1" in shown
    assert "height:25%" in shown
    assert "predicted" in shown
    assert sensitivity([None, None]) == ""
    assert sensitivity([0.0]) == ""


@pytest.mark.parametrize(
    ("name", "entered", "target"),
    [
        ("size", [5.5], SizeTarget(kilobytes=5.5)),
        ("room", [8192.0, 4.0, 2.5], RoomTarget(tokens=8192, batch=4, gigabytes=2.5)),
        ("loss", [3.0], LossTarget(percent=3)),
    ],
)
def test_a_row_is_a_target(name: str, entered: list[float], target: Target) -> None:
    assert read_target(name, entered) == target


@pytest.mark.parametrize("entered", [[None], [0.0], [-1.0]])
def test_an_empty_row_says_which_box_is_missing(entered: list[float | None]) -> None:
    with pytest.raises(SpecError, match="KB per token"):
        read_target("size", entered)


def test_numbers_are_written_as_people_say_them() -> None:
    assert flops(12_400_000_000) == f"12.4{THIN}GFLOP"
    assert flops(999) == f"999{THIN}FLOP"
    assert offer_label(None) == "Make the profile (some minutes)"
    assert "about 3" in offer_label(180)
