# SPDX-License-Identifier: Apache-2.0
"""The form's values by name, and the request they make."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.ui.form_base import NOT_MEASURED, is_base, make_base, overlaid, shown_of, weights_shown
from app.ui.tuned import Pairs, locked_of, pairs_of, ranks_of, untouched
from core.presets import DEFAULT_PRESET, PRESETS
from core.recipe import OF_WEIGHTS, without_weights
from core.spec import Evaluation, JobSpec, Recipe
from core.stages import STAGES
from core.widths import PRE_ROPE

DEFAULT_CONTEXT = 8192
DEFAULT_BATCH = 8

RECIPE: tuple[str, ...] = tuple(Recipe.model_fields)
# heading of what has no effect without a budget of weights
OF_WEIGHTS_TITLE = "Weights of the linear layers"
_GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Positions", ("layout", "rope_select", "rope_select_start", "rope_mix", "freqfold", "rope_derotate")),
    ("Factors", ("factor_input", "factor_output", "factor_form", "key_weight", "mean_bias", "refit_output")),
    ("Budget", ("allocate", "latent_bits")),
    (OF_WEIGHTS_TITLE, OF_WEIGHTS),
)
# what has no effect in the pre-rope layout, where every pair keeps its rotation
ROTARY = frozenset(_GROUPS[0][1][1:])
# the order in which a handler receives them
FIELDS: tuple[str, ...] = (
    "model",
    "preset",
    "keep",
    "has_weights",
    "weights_keep",
    "rope_dim",
    "kv_rank",
    "context",
    "batch",
    "calibration_text",
    "calibration_tokens",
    "fisher_tokens",
    "evaluation_text",
    *RECIPE,
    "layers",
    "pairs",
    "base",
)
# a box that is none: what of a whole spec the other boxes cannot say, see form_base
BASE = "base"


@dataclass(frozen=True)
class Form:
    """What a user has entered, unchecked."""

    values: dict[str, Any]

    @staticmethod
    def of(entered: Sequence[Any]) -> "Form":
        """From the values of the components, in the order of FIELDS."""
        return Form(dict(zip(FIELDS, entered, strict=True)))

    def with_values(self, **changes: Any) -> "Form":
        """The same form with some boxes changed."""
        return Form(self.values | changes)

    @property
    def context(self) -> int:
        return _whole(self.values["context"], DEFAULT_CONTEXT)

    @property
    def batch(self) -> int:
        return _whole(self.values["batch"], DEFAULT_BATCH)

    @property
    def request(self) -> dict[str, Any]:
        """The JobSpec fields; an empty box means: not said."""
        base = self.values[BASE]
        return overlaid(base, self.values, self._typed) if base else self._typed

    @property
    def parent(self) -> str:
        """The job this form is a clone of; empty when it is none."""
        return str(self.values[BASE]["parent"]) if self.values[BASE] else ""

    @property
    def _typed(self) -> dict[str, Any]:
        """What the boxes say alone."""
        entered = self.values
        request: dict[str, Any] = {
            "model": str(entered["model"] or "").strip(),
            "preset": entered["preset"],
            "recipe": _said(**{name: entered[name] for name in RECIPE}),
        }
        if not self.has_weights:
            request["recipe"] = without_weights(request["recipe"])
        request |= _said(keep=_fraction(entered["keep"]))
        # said even where it is none: a preset with a budget of weights would bring its own
        request["weights_keep"] = _fraction(entered["weights_keep"]) if self.has_weights else None
        request |= _said(rope_dim=self.rope_dim, kv_rank=entered["kv_rank"])
        request |= _said(layer_ranks=self.layer_ranks, rope_pairs=self.rope_pairs)
        calibration = _said(
            text=str(entered["calibration_text"] or "").strip() or None,
            tokens=entered["calibration_tokens"],
            fisher_tokens=entered["fisher_tokens"],
        )
        request |= {"calibration": calibration} if calibration else {}
        return request | _evaluation(str(entered["evaluation_text"] or "").strip())

    @property
    def has_weights(self) -> bool:
        """The linear layers have a budget of their own."""
        return bool(self.values["has_weights"])

    @property
    def has_rope_dim(self) -> bool:
        """The layout caches rotated keys, so there is a number of them to choose."""
        return bool(self.values["layout"] != PRE_ROPE)

    @property
    def rope_dim(self) -> float | None:
        """As entered; what an earlier layout was given counts for nothing."""
        return self.values["rope_dim"] if self.has_rope_dim else None

    @property
    def layer_ranks(self) -> list[int] | None:
        """Ranks layer by layer; None while the slider sets them."""
        return ranks_of(self.values["layers"])

    @property
    def locked(self) -> dict[int, int]:
        """Layers whose rank stays where it is."""
        return locked_of(self.values["layers"])

    @property
    def rope_pairs(self) -> Pairs | None:
        """Pairs kept by hand; what an earlier layout was given counts for nothing."""
        return pairs_of(self.values["pairs"]) if self.has_rope_dim else None

    @property
    def is_budget_overridden(self) -> bool:
        """The slider has no effect: widths are given as numbers."""
        return self.rope_dim is not None or self.values["kv_rank"] is not None

    @property
    def changed(self) -> list[str]:
        """Fields of the recipe that are no longer those of the preset."""
        preset = PRESETS.get(str(self.values["preset"]))
        usual = preset.recipe.model_dump() if preset else {}
        idle = () if self.has_weights else OF_WEIGHTS
        return [name for name, value in usual.items() if self.values[name] != value and name not in idle]


def initial() -> dict[str, Any]:
    """The form as it is before anybody touched it."""
    return {
        "model": "demo",
        "context": DEFAULT_CONTEXT,
        "batch": DEFAULT_BATCH,
        "calibration_text": "wikipedia",
        "calibration_tokens": None,
        "fisher_tokens": None,
        "evaluation_text": Evaluation().text,
        BASE: None,
    } | of_preset(DEFAULT_PRESET)


def of_preset(name: str) -> dict[str, Any]:
    """What choosing a preset sets: the budget and every field of the recipe."""
    preset = PRESETS[name]
    budget = {"preset": name, "keep": preset.keep * 100, "rope_dim": None, "kv_rank": None}
    budget |= weights_shown(preset.weights_keep)
    return budget | preset.recipe.model_dump() | untouched()


def of_spec(spec: JobSpec, entered: Mapping[str, Any], parent: str = "") -> dict[str, Any]:
    """The form that makes exactly this request; what is no part of a request stays as entered."""
    shown = shown_of(spec, offered_presets())
    return {**entered, **shown, BASE: make_base(spec, shown, parent)}


def remembered(found: Mapping[str, Any] | None) -> dict[str, Any]:
    """The form as a browser kept it; the initial one when there is none, or it is of another version."""
    if not found or set(found) != set(FIELDS) or found["preset"] not in (None, *offered_presets()):
        return initial()
    if not is_base(found[BASE]):
        return initial()
    known = all(found[stage] in choices.ready for stage, choices in STAGES.items())
    return dict(found) if known else initial()


def offered_presets() -> list[str]:
    """One name for each recipe: presets that differ in the budget of the cache alone are one choice.

    A preset that makes the weights smaller is another choice.
    """
    first: dict[tuple[Recipe, float | None], str] = {}
    for name, preset in PRESETS.items():
        first.setdefault((preset.recipe, preset.weights_keep), name)
    return [*first.values()]


def recipe_groups() -> list[tuple[str, tuple[str, ...]]]:
    """Every field of a recipe under a heading, in the order a conversion asks."""
    placed = {name for _, names in _GROUPS for name in names}
    rest = tuple(name for name in RECIPE if name not in placed)
    return [*_GROUPS, *([("More", rest)] if rest else [])]


def _said(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _evaluation(text: str) -> dict[str, Any]:
    """Nothing when it is the usual text, so that the usual windows are measured."""
    if text == NOT_MEASURED:
        return {"evaluation": None}
    return {} if text in ("", Evaluation().text) else {"evaluation": {"text": text}}


def _fraction(percent: float | None) -> float | None:
    return None if percent is None else percent / 100


def _whole(value: Any, default: int) -> int:
    """What can be read as a number of at least 1; a box that is being typed into keeps the default."""
    try:
        return max(1, int(str(value).strip()))
    except ValueError:
        return default
