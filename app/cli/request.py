# SPDX-License-Identifier: Apache-2.0
"""From the options of a command to the JobSpec they mean. An option that was not given is None."""

from collections.abc import Mapping, Sequence
from typing import Any

from core.errors import SpecError
from core.facts import read_facts
from core.presets import spec_from_preset
from core.profiles import newest_profile
from core.settings import Settings
from core.spec import Calibration, Evaluation, Frozen, JobSpec, Recipe, parse_spec
from core.target import keep_for_loss

NO_PRESET = "none"
# takes the budget of weights of a preset or a recipe away
NO_WEIGHTS = "none"
_PARTS: Mapping[str, type[Frozen]] = {"recipe": Recipe, "calibration": Calibration, "evaluation": Evaluation}


def spec_from_options(
    preset: str, changes: Sequence[str], max_loss: float | None = None, **options: Any
) -> JobSpec:
    """A JobSpec; raises SpecError naming the field. `changes` are NAME=VALUE, see `read_changes`.

    Widths given as numbers are the whole budget, so the preset's `keep` does not stay beside them; nor does
    any of them beside max_loss, from which the budget follows.
    """
    budget = [name for name in ("keep", "rope_dim", "kv_rank") if options.get(name) is not None]
    if max_loss is not None and budget:
        raise SpecError(
            f"max_loss finds the budget, and {budget[0]} sets it",
            hint="give one of them",
            field="max_loss",
        )
    said = {name: value for name, value in options.items() if value is not None}
    for part, fields in read_changes(changes).items():
        said[part] = said.get(part, {}) | fields
    if "kv_rank" in said and "keep" not in said:
        said["keep"] = None
    if said.get("weights_keep") == NO_WEIGHTS:
        said["weights_keep"] = None
    return parse_spec(said) if preset == NO_PRESET else spec_from_preset(preset, **said)


def convert_spec(
    preset: str,
    changes: Sequence[str],
    evaluation: str,
    evaluation_context: int,
    windows: int,
    **options: Any,
) -> JobSpec:
    """The request of `convert`; the evaluation text "none" skips the measurement."""
    measured = {"text": evaluation, "context": evaluation_context, "windows": windows}
    spec = spec_from_options(preset, changes, **options, evaluation=measured)
    return spec.model_copy(update={"evaluation": None}) if evaluation == "none" else spec


def at_most(spec: JobSpec, max_loss: float | None, settings: Settings) -> JobSpec:
    """`spec` with the smallest budget that is predicted to lose no more than `max_loss`, when one is given.

    Raises SpecError when no stored profile can say what the recipe loses.
    """
    if max_loss is None:
        return spec
    facts = read_facts(spec.model, revision=spec.revision, settings=settings)
    keep = keep_for_loss(spec, facts, newest_profile(settings.home, facts.name), max_loss)
    return spec.model_copy(update={"keep": keep})


def read_changes(changes: Sequence[str]) -> dict[str, dict[str, str]]:
    """["rope_mix=complex", "calibration.seed=3"] -> {"recipe": {…}, "calibration": {…}}.

    A name without a dot is a field of the recipe. Values stay text: the JobSpec reads and checks them.
    Raises SpecError for what is not NAME=VALUE and for a name there is not.
    """
    found: dict[str, dict[str, str]] = {}
    for change in changes:
        name, equals, value = change.partition("=")
        part, dot, field = name.strip().rpartition(".")
        part = part if dot else "recipe"
        if not equals:
            raise SpecError(
                f"--set {change} gives no value", hint="write --set rope_mix=complex", field=change
            )
        if part not in _PARTS or field not in _PARTS[part].model_fields:
            known = [*Recipe.model_fields, *(f"calibration.{one}" for one in Calibration.model_fields)]
            raise SpecError(
                f"there is no setting '{name}'", hint=f"choose one of: {', '.join(known)}", field=name
            )
        found.setdefault(part, {})[field] = value.strip()
    return found
