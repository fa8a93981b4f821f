# SPDX-License-Identifier: Apache-2.0
"""The rows of the leaderboard: which conversions are made. To add an ablation, add a line to ABLATIONS."""

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import Field

from core.errors import SpecError
from core.presets import PRESETS, find_preset, spec_from_preset
from core.spec import Frozen, JobSpec, Recipe
from leaderboard.setting import MAIN_KEEP, Setting

# what is compared by position up to long_context, at MAIN_KEEP
BY_POSITION = ("fast", "quality")

# (what is switched, the preset it is switched in, the choices laid over its recipe), all at MAIN_KEEP
Ablation = tuple[str, str, dict[str, Any]]
ABLATIONS: Sequence[Ablation] = (
    ("tokens count the same", "quality", {"factor_input": "root-covariance"}),
    ("no metric on inputs", "quality", {"factor_input": "identity"}),
    ("channels balanced only", "quality", {"factor_output": "balanced"}),
    ("keys and values apart", "quality", {"factor_form": "split"}),
    ("equal widths", "quality", {"allocate": "uniform"}),
    ("no biases for the mean", "quality", {"mean_bias": False}),
    ("W_O as it was", "quality", {"refit_output": False}),
    ("heads not mixed", "fast", {"rope_mix": "none", "freqfold": 1}),
    ("real mixing", "fast", {"rope_mix": "roro"}),
    ("frequencies not folded", "fast", {"freqfold": 1}),
    ("fastest pairs keep RoPE", "fast", {"rope_select": "high"}),
    ("dropped rotations not replaced", "fast", {"rope_derotate": "identity"}),
    ("W_O as it was", "fast", {"refit_output": False}),
)


class Row(Frozen):
    """One conversion and what is measured of it."""

    name: str
    preset: str
    keep: float
    switched: dict[str, Any] = Field(default_factory=dict)
    # timed rows pay for their own calibration; the others read one stored profile
    is_timed: bool = False
    by_position: bool = False

    def spec(self, setting: Setting) -> JobSpec:
        """What is asked of the engine; raises SpecError. Measuring is the leaderboard's own business."""
        return spec_from_preset(
            self.preset,
            model=setting.model,
            keep=self.keep,
            recipe=self.switched,
            calibration=setting.calibration.model_dump(),
            evaluation=None,
        )


def families() -> list[str]:
    """The first preset of every recipe: presets that differ only in their budget are one line of the plot."""
    firsts: dict[tuple[str, float | None], str] = {}
    for preset in PRESETS.values():
        firsts.setdefault((preset.recipe.model_dump_json(), preset.weights_keep), preset.name)
    return list(firsts.values())


def preset_rows(presets: Iterable[str], keeps: Iterable[float]) -> list[Row]:
    """Every preset at every budget, the timed ones first: they want the machine for themselves.

    What also has a budget of weights stands at MAIN_KEEP alone where that is asked for: its loss is of both.
    """
    asked = list(presets)
    budgets = sorted(keeps, key=lambda keep: (keep != MAIN_KEEP, -keep))
    return [
        Row(
            name=preset,
            preset=preset,
            keep=keep,
            is_timed=keep == MAIN_KEEP,
            by_position=keep == MAIN_KEEP and preset in BY_POSITION,
        )
        for keep in budgets
        for preset in asked
        if keep == MAIN_KEEP or MAIN_KEEP not in budgets or find_preset(preset).weights_keep is None
    ]


def ablation_rows(ablations: Iterable[Ablation]) -> list[Row]:
    """One row per ablation; raises SpecError for an unknown stage or preset, or a repeated name."""
    rows: dict[tuple[str, str], Row] = {}
    for name, preset, switched in ablations:
        find_preset(preset)
        unknown = switched.keys() - Recipe.model_fields.keys()
        if unknown:
            raise SpecError(
                f"ablation '{name}' of '{preset}' switches {', '.join(sorted(unknown))}, which is no stage",
                hint=f"stages are: {', '.join(Recipe.model_fields)}",
            )
        if not switched or (preset, name) in rows:
            raise SpecError(
                f"ablation '{name}' of '{preset}' switches nothing or is listed twice",
                hint="give it a name of its own and at least one choice",
            )
        rows[preset, name] = Row(name=name, preset=preset, keep=MAIN_KEEP, switched=switched)
    return list(rows.values())
