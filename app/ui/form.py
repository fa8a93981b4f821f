# SPDX-License-Identifier: Apache-2.0
"""The form's values by name, and the request they make."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from core.presets import DEFAULT_PRESET, PRESETS
from core.stages import STAGES

DEFAULT_CONTEXT = 8192
DEFAULT_BATCH = 8

# the order in which a handler receives them
FIELDS: tuple[str, ...] = (
    "model",
    "preset",
    "keep",
    "rope_dim",
    "kv_rank",
    "context",
    "batch",
    "calibration_text",
    "calibration_tokens",
    "rope_select_start",
    *STAGES,
)


@dataclass(frozen=True)
class Form:
    """What a user has entered, unchecked."""

    values: dict[str, Any]

    @staticmethod
    def of(entered: Sequence[Any]) -> "Form":
        """From the values of the components, in the order of FIELDS."""
        return Form(dict(zip(FIELDS, entered, strict=True)))

    @property
    def context(self) -> int:
        return _whole(self.values["context"], DEFAULT_CONTEXT)

    @property
    def batch(self) -> int:
        return _whole(self.values["batch"], DEFAULT_BATCH)

    @property
    def request(self) -> dict[str, Any]:
        """The JobSpec fields; an empty box means: not said."""
        entered = self.values
        request: dict[str, Any] = {
            "model": str(entered["model"] or "").strip(),
            "preset": entered["preset"],
            "recipe": {stage: entered[stage] for stage in STAGES if entered[stage] is not None},
        }
        request["recipe"] |= _said(rope_select_start=entered["rope_select_start"])
        request |= _said(keep=_fraction(entered["keep"]))
        request |= _said(rope_dim=entered["rope_dim"], kv_rank=entered["kv_rank"])
        calibration = _said(text=str(entered["calibration_text"] or "").strip() or None)
        calibration |= _said(tokens=entered["calibration_tokens"])
        return request | ({"calibration": calibration} if calibration else {})

    @property
    def is_budget_overridden(self) -> bool:
        """The slider has no effect: widths are given as numbers."""
        return self.values["rope_dim"] is not None or self.values["kv_rank"] is not None


def initial() -> dict[str, Any]:
    """The form as it is before anybody touched it."""
    preset = PRESETS[DEFAULT_PRESET]
    return {
        "model": "demo",
        "preset": preset.name,
        "keep": preset.keep * 100,
        "rope_dim": None,
        "kv_rank": None,
        "context": DEFAULT_CONTEXT,
        "batch": DEFAULT_BATCH,
        "calibration_text": "wikipedia",
        "calibration_tokens": None,
    } | preset.recipe.model_dump()


def _said(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _fraction(percent: float | None) -> float | None:
    return None if percent is None else percent / 100


def _whole(value: Any, default: int) -> int:
    """What can be read as a number of at least 1; a box that is being typed into keeps the default."""
    try:
        return max(1, int(str(value).strip()))
    except ValueError:
        return default
