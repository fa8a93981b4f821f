# SPDX-License-Identifier: Apache-2.0
"""Which rows there are: presets appear by themselves, a wrong ablation does not pass."""

import pytest
from leaderboard.rows import ABLATIONS, BY_POSITION, Row, ablation_rows, families, preset_rows
from leaderboard.setting import FULL, KEEPS, MAIN_KEEP, QUICK

from core.errors import SpecError
from core.presets import PRESETS


def test_presets_of_one_recipe_are_one_family() -> None:
    """mha2mla, mha2mla-81 and mha2mla-87 are one recipe at three budgets."""
    assert [name for name in families() if name.startswith("mha2mla")] == ["mha2mla"]
    asked = {(preset.recipe.model_dump_json(), preset.weights_keep) for preset in PRESETS.values()}
    chosen = [PRESETS[name] for name in families()]
    assert {(preset.recipe.model_dump_json(), preset.weights_keep) for preset in chosen} == asked
    assert len(chosen) == len(asked)


def test_every_family_is_converted_at_every_budget_and_timed_once() -> None:
    """But for those that shrink weights too: they stand where both budgets are compared."""
    rows = preset_rows(families(), KEEPS)
    both = {name for name in families() if PRESETS[name].weights_keep is not None}
    expected = {(name, keep) for name in families() for keep in KEEPS if name not in both}
    assert both == {"latentllm"}
    assert {(row.preset, row.keep) for row in rows} == expected | {(name, MAIN_KEEP) for name in both}
    assert [row.keep for row in preset_rows(["latentllm"], [0.5, 0.125])] == [0.5, 0.125]
    assert [row.preset for row in rows if row.is_timed] == families()
    assert all(row.keep == MAIN_KEEP for row in rows if row.is_timed or row.by_position)


def test_a_family_is_timed_before_its_other_budgets() -> None:
    """They may reuse what it measured; the other way round its time would not be that of a calibration."""
    assert [row.is_timed for row in preset_rows(["mha2mla"], KEEPS)] == [True, False, False, False]


def test_long_contexts_are_measured_for_our_own_presets() -> None:
    rows = preset_rows([*BY_POSITION, "mha2mla"], KEEPS)
    assert [(row.preset, row.keep) for row in rows if row.by_position] == [
        (name, MAIN_KEEP) for name in BY_POSITION
    ]


def test_all_rows_share_one_calibration_and_leave_measuring_to_the_leaderboard() -> None:
    """That is what makes them comparable; the specs of all shipped rows are valid."""
    specs = [row.spec(QUICK) for row in [*preset_rows(families(), KEEPS), *ablation_rows(ABLATIONS)]]
    assert {spec.calibration for spec in specs} == {QUICK.calibration}
    assert {spec.evaluation for spec in specs} == {None}
    assert {spec.model for spec in specs} == {"demo"}


def test_an_ablation_is_the_preset_with_one_thing_switched() -> None:
    (row,) = ablation_rows([("split", "mha2mla", {"factor_form": "split"})])
    assert row.keep == MAIN_KEEP
    expected = PRESETS["mha2mla"].recipe.model_copy(update={"factor_form": "split"})
    assert row.spec(QUICK).recipe == expected


@pytest.mark.parametrize(
    ("ablations", "complaint"),
    [
        ([("typo", "mha2mla", {"factor_from": "split"})], "'typo' of 'mha2mla' switches factor_from"),
        ([("nothing", "mha2mla", {})], "switches nothing"),
        ([("twice", "mha2mla", {"factor_form": "split"})] * 2, "listed twice"),
        ([("who", "mha2mal", {"factor_form": "split"})], "no preset 'mha2mal'"),
    ],
)
def test_a_wrong_ablation_is_refused(
    ablations: list[tuple[str, str, dict[str, str]]], complaint: str
) -> None:
    with pytest.raises(SpecError, match=complaint) as caught:
        ablation_rows(ablations)
    assert caught.value.hint


def test_a_choice_that_does_not_exist_is_refused() -> None:
    with pytest.raises(SpecError, match="'spilt' is not a known choice"):
        Row(name="x", preset="mha2mla", keep=0.5, switched={"factor_form": "spilt"}).spec(QUICK)


def test_the_full_form_reads_twice_the_text() -> None:
    assert (FULL.windows, FULL.long_windows) == (2 * QUICK.windows, 2 * QUICK.long_windows)
    assert FULL.calibration == QUICK.calibration
