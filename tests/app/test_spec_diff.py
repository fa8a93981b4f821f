# SPDX-License-Identifier: Apache-2.0
"""What sets two requests apart is said field by field, and nothing else is."""

from app.services.spec_diff import SpecChange, diff_specs, differing_fields
from core.presets import spec_from_preset
from core.spec import Calibration, JobSpec


def test_equal_specs_have_no_difference() -> None:
    assert diff_specs(JobSpec(), JobSpec()) == []


def test_a_difference_is_named_by_its_path_with_both_values() -> None:
    """Paths are those of the JSON, so that a reader finds them in a recipe file."""
    before = spec_from_preset("quality", keep=0.25)
    after = before.model_copy(update={"keep": 0.5, "calibration": Calibration(tokens=4096)})
    assert diff_specs(before, after) == [
        SpecChange(path="keep", before=0.25, after=0.5),
        SpecChange(path="calibration.tokens", before=32_768, after=4096),
    ]


def test_a_part_left_out_differs_as_a_whole() -> None:
    """evaluation null against a text: every field of the text is a row, null among them as nothing."""
    rows = {row.path: row for row in diff_specs(JobSpec(), JobSpec(evaluation=None))}
    assert rows["evaluation.text"].before == "wikipedia-heldout"
    assert rows["evaluation.text"].after is None


def test_a_field_shows_when_one_of_several_differs() -> None:
    """Two equal presets and a third: the third alone makes it a row, with a value for each."""
    specs = [spec_from_preset(name) for name in ("quality", "quality", "fast")]
    rows = differing_fields(specs)
    assert rows["preset"] == ["quality", "quality", "fast"]
    assert rows["recipe.layout"] == ["pre-rope", "pre-rope", "latent+rope"]
    assert "keep" not in rows
