# SPDX-License-Identifier: Apache-2.0
"""From the options of a command to the JobSpec they mean. An option that was not given is None."""

from typing import Any

from core.presets import spec_from_preset
from core.spec import JobSpec, parse_spec

NO_PRESET = "none"


def spec_from_options(preset: str, recipe: dict[str, Any], **options: Any) -> JobSpec:
    """A JobSpec; raises SpecError naming the field.

    Widths given as numbers are the whole budget, so the preset's `keep` does not stay beside them.
    """
    said = {name: value for name, value in options.items() if value is not None}
    chosen = {stage: choice for stage, choice in recipe.items() if choice is not None}
    if {"rope_dim", "kv_rank"} <= said.keys() and "keep" not in said:
        said["keep"] = None
    if preset == NO_PRESET:
        return parse_spec(said | {"recipe": chosen})
    return spec_from_preset(preset, **said, recipe=chosen)


def convert_spec(
    preset: str,
    recipe: dict[str, Any],
    evaluation: str,
    evaluation_context: int,
    windows: int,
    **options: Any,
) -> JobSpec:
    """The request of `convert`; the evaluation text "none" skips the measurement."""
    measured = {"text": evaluation, "context": evaluation_context, "windows": windows}
    spec = spec_from_options(preset, recipe, **options, evaluation=measured)
    return spec.model_copy(update={"evaluation": None}) if evaluation == "none" else spec
