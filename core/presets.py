# SPDX-License-Identifier: Apache-2.0
"""Presets: a published method is a recipe and a budget, nothing more."""

from collections.abc import Mapping
from typing import Any

from core.errors import SpecError
from core.spec import GRADED, Frozen, JobSpec, Recipe, parse_spec


class Preset(Frozen):
    """A named starting point; every field of it can be changed afterwards."""

    name: str
    title: str
    promise: str
    paper: str
    recipe: Recipe
    keep: float
    weights_keep: float | None = None


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


_QUALITY = Preset(
    name="quality",
    title="Best quality",
    promise="the smallest loss per cached byte: one latent for keys and values, positions stay exact; "
    "a decode step rebuilds the keys, which costs time at long context",
    paper="LatentLLM, arXiv 2505.18413, section 3 (root covariance, biases), with loss-weighted tokens",
    recipe=Recipe(
        layout="pre-rope",
        factor_input="root-fisher",
        factor_output="fisher",
        allocate="loss-aware",
        mean_bias=True,
        refit_output=True,
    ),
    keep=0.3125,
)

_FAST = Preset(
    name="fast",
    title="Fast decode",
    promise="a decode step reads the small cache as it is (absorbed); loses more than best quality, "
    "because position information is kept for a few shared pairs only",
    paper="TransMLA, arXiv 2502.07864, section 4 (shared rope key, FreqFold) and LatentLLM, with complex "
    "mixing, logit damage and loss-weighted tokens",
    recipe=Recipe(
        rope_select="logit-damage",
        rope_mix="complex",
        freqfold=GRADED,
        rope_derotate="expected",
        factor_input="root-fisher",
        factor_output="fisher",
        allocate="loss-aware",
        mean_bias=True,
        refit_output=True,
    ),
    keep=0.3125,
)

_LATENTLLM = Preset(
    name="latentllm",
    title="Smaller model",
    promise="half the cache and a fifth of the weights of the linear layers gone, without training: queries "
    "are factored for the logits they make, the rest by what it means to the loss",
    paper="LatentLLM, arXiv 2505.18413: root covariance, junction matrices, "
    "queries for their logits, up/down MLP, with loss-weighted tokens",
    recipe=_QUALITY.recipe,
    keep=0.5,
    weights_keep=0.8,
)

_TRANSMLA = Preset(
    name="transmla",
    title="TransMLA",
    promise="one shared rope key from RoRoPE with FreqFold 4, joint PCA of balanced keys and values; "
    "the published conversion without its fine-tuning",
    paper="TransMLA, arXiv 2502.07864, sections 4.2 to 4.4",
    recipe=Recipe(
        rope_select="uniform",
        rope_mix="roro",
        freqfold=4,
        factor_input="root-covariance",
        factor_output="balanced",
    ),
    keep=0.3125,
)

PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        _QUALITY,
        _FAST,
        _LATENTLLM,
        _TRANSMLA,
        _mha2mla("mha2mla", "68.75", 0.3125),
        _mha2mla("mha2mla-81", "81.25", 0.1875),
        _mha2mla("mha2mla-87", "87.5", 0.125),
    )
}
DEFAULT_PRESET = "quality"


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
    return parse_spec(
        {"preset": name, "keep": preset.keep, "weights_keep": preset.weights_keep}
        | given
        | {"recipe": recipe}
    )
