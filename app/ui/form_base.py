# SPDX-License-Identifier: Apache-2.0
"""A form that was filled from a whole spec: what its boxes cannot say stays exactly as it was there.

A form has fewer boxes than a spec has fields, and a slider has fewer positions than a number. So the spec
is kept beside the boxes, with what they showed of it; only a box that shows something else by now changes it.
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

from app.services.spec_diff import SpecChange, diff_specs
from app.ui.tuned import by_rule, by_slider
from core.presets import PRESETS
from core.recipe import without_weights
from core.spec import Calibration, Evaluation, JobSpec, Recipe
from core.widths import PRE_ROPE

Fields = dict[str, Any]
_Write = Callable[[Fields, str, Mapping[str, Any]], None]

NOT_MEASURED = "none"
# of the spec, and of its parts, what the form has no box for
NO_BOX = frozenset(
    [
        "revision",
        *(f"calibration.{one}" for one in ("context", "sampling", "refit_tokens", "shrinkage")),
        *(f"calibration.{one}" for one in ("image_weight", "seed")),
        *(f"evaluation.{one}" for one in ("context", "windows")),
        "dtype",
        "device",
        "shard_bytes",
    ]
)
_STEP, _LEAST, _MOST = 0.25, 3, 100
# percent of the slider of the weights, and where it stands before anybody asked for one
WEIGHTS_STEP, WEIGHTS_LEAST, WEIGHTS_USUAL = 0.5, 10, 80


def make_base(spec: JobSpec, shown: Mapping[str, Any], parent: str = "") -> Fields:
    """What a form keeps of the spec that filled it; `parent` is the job it is a clone of."""
    return {"spec": spec.model_dump(mode="json"), "shown": dict(shown), "parent": parent}


def is_base(found: Any) -> bool:
    """Whether a browser kept something that can be used as one."""
    if found is None:
        return True
    return (
        isinstance(found, dict)
        and isinstance(found.get("spec"), dict)
        and isinstance(found.get("shown"), dict)
        and isinstance(found.get("parent"), str)
    )


def shown_of(spec: JobSpec, offered: list[str]) -> Fields:
    """What the boxes show of `spec`, by the name of the box."""
    usual, read = Calibration(), spec.calibration
    by_hand = spec.model_dump(mode="json", include={"layer_ranks", "rope_pairs"})
    return {
        "model": spec.model,
        "preset": _offered_preset(spec.preset, offered),
        "keep": _on_slider(spec),
        **weights_shown(spec.weights_keep),
        "rope_dim": spec.rope_dim if spec.recipe.layout != PRE_ROPE else None,
        "kv_rank": spec.kv_rank,
        "calibration_text": read.text,
        "calibration_tokens": read.tokens if read.tokens != usual.tokens else None,
        "fisher_tokens": read.fisher_tokens if read.fisher_tokens != usual.fisher_tokens else None,
        "evaluation_text": spec.evaluation.text if spec.evaluation else NOT_MEASURED,
        **spec.recipe.model_dump(),
        "layers": by_slider() | {"ranks": by_hand["layer_ranks"]},
        "pairs": by_rule() | {"kept": by_hand["rope_pairs"]},
    }


def _on_slider(spec: JobSpec) -> float:
    """The position nearest to the budget; the usual one where widths are given instead."""
    percent = (spec.keep if spec.keep is not None else JobSpec().keep or 1) * 100
    return min(_MOST, max(_LEAST, round(percent / _STEP) * _STEP))


def weights_shown(keep: float | None) -> Fields:
    """Whether there is a budget of weights, and the position nearest to it."""
    percent = WEIGHTS_USUAL if keep is None else round(keep * 100 / WEIGHTS_STEP) * WEIGHTS_STEP
    return {"has_weights": keep is not None, "weights_keep": min(_MOST, max(WEIGHTS_LEAST, percent))}


def _offered_preset(name: str | None, offered: list[str]) -> str | None:
    """The choice that stands for `name`: presets that differ in budget alone are one."""
    if name is None or name in offered:
        return name
    found = PRESETS.get(name)
    if found is None:
        return None
    alike = (found.recipe, found.weights_keep)
    return next((one for one in offered if (PRESETS[one].recipe, PRESETS[one].weights_keep) == alike), None)


def without_box(spec: JobSpec) -> list[SpecChange]:
    """What no box shows, where it is not as usual."""
    usual = JobSpec(evaluation=Evaluation() if spec.evaluation else None)
    return [one for one in diff_specs(usual, spec) if one.path in NO_BOX]


def overlaid(base: Mapping[str, Any], values: Mapping[str, Any], typed: Mapping[str, Any]) -> Fields:
    """The spec of `base` with what the boxes `values` say by now; `typed` is the request they make alone."""
    said: Fields = deepcopy(dict(base["spec"]))
    changed = [box for box, shown in base["shown"].items() if box in values and values[box] != shown]
    for box in changed:
        _WRITE.get(box, _write_plain)(said, box, typed)
    if "model" in changed:
        # a commit of one model is none of another
        said["revision"] = None
    if said["keep"] is None and said["kv_rank"] is None and said.get("layer_ranks") is None:
        said["keep"] = typed.get("keep")
    if said.get("weights_keep") is None and "recipe" in said:
        said["recipe"] = without_weights(said["recipe"])
    return said


def _write_plain(said: Fields, box: str, typed: Mapping[str, Any]) -> None:
    """A field of the spec, or of its recipe."""
    if box in Recipe.model_fields:
        recipe = said.setdefault("recipe", {})
        value = typed.get("recipe", {}).get(box)
        # an empty box says nothing: the preset does then
        recipe.pop(box, None)
        recipe |= {} if value is None else {box: value}
        return
    said[box] = typed.get(box)


def _write_calibration(field: str) -> _Write:
    usual = getattr(Calibration(), field)

    def write(said: Fields, box: str, typed: Mapping[str, Any]) -> None:
        del box
        said["calibration"] = said.get("calibration", {}) | {
            field: typed.get("calibration", {}).get(field, usual)
        }

    return write


def _write_evaluation(said: Fields, box: str, typed: Mapping[str, Any]) -> None:
    del box
    chosen = typed.get("evaluation", {"text": Evaluation().text})
    said["evaluation"] = None if chosen is None else (said.get("evaluation") or {}) | chosen


def _write_by_hand(field: str) -> _Write:
    def write(said: Fields, box: str, typed: Mapping[str, Any]) -> None:
        del box
        said[field] = typed.get(field)

    return write


_WRITE: Mapping[str, _Write] = {
    "has_weights": _write_by_hand("weights_keep"),
    "calibration_text": _write_calibration("text"),
    "calibration_tokens": _write_calibration("tokens"),
    "fisher_tokens": _write_calibration("fisher_tokens"),
    "evaluation_text": _write_evaluation,
    "layers": _write_by_hand("layer_ranks"),
    "pairs": _write_by_hand("rope_pairs"),
}
