# SPDX-License-Identifier: Apache-2.0
"""Presets: a published method is a recipe and a budget, nothing more."""

from collections.abc import Mapping
from typing import Any

from core.errors import SpecError
from core.spec import Frozen, JobSpec, Recipe, parse_spec


class Preset(Frozen):
    """A named starting point; every field of it can be changed afterwards."""

    name: str
    title: str
    promise: str
    paper: str
    recipe: Recipe
    keep: float


_MHA2MLA = Recipe(rope_select="2-norm", factor_form="joint")
_PAPER = "MHA2MLA, arXiv 2502.14837, sections 3.1 and 3.2"


def _mha2mla(name: str, cut: str, keep: float) -> Preset:
    return Preset(
        name=name,
        title=f"MHA2MLA −{cut} %",
        promise=f"partial RoPE by 2-norm and joint SVD of the weights, {cut} % of the cache gone; "
        "the paper fine-tunes afterwards, without that the quality is poor",
        paper=_PAPER,
        recipe=_MHA2MLA,
        keep=keep,
    )


PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        _mha2mla("mha2mla", "68.75", 0.3125),
        _mha2mla("mha2mla-81", "81.25", 0.1875),
        _mha2mla("mha2mla-87", "87.5", 0.125),
    )
}


def find_preset(name: str) -> Preset:
    """The preset called `name`; raises SpecError listing what there is."""
    if name not in PRESETS:
        raise SpecError(
            f"there is no preset '{name}'", hint=f"choose one of: {', '.join(PRESETS)}", field="preset"
        )
    return PRESETS[name]


def spec_from_preset(name: str, **fields: Any) -> JobSpec:
    """A JobSpec with the preset's recipe and budget, `fields` laid over it; a None is said, not left out."""
    preset = find_preset(name)
    given = dict(fields)
    recipe = preset.recipe.model_dump() | given.pop("recipe", {})
    return parse_spec({"preset": name, "keep": preset.keep} | given | {"recipe": recipe})
