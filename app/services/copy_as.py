# SPDX-License-Identifier: Apache-2.0
"""The same request on the command line, over HTTP, and as a recipe file."""

import json
import shlex
from typing import Any

from app.services.recipe_yaml import write_yaml
from core.further.spec import Measurements
from core.presets import PRESETS
from core.spec import Calibration, Evaluation, Frozen, Healing, JobSpec, Recipe

_PLAIN = ("revision", "dtype", "device", "shard_bytes")
# what is a choice for every layer: too much for an option
_NO_OPTION = ("layer_ranks", "rope_pairs")
# fields of Calibration that `convert` has an option for
_PROFILE_OPTIONS = ("calibration", "tokens", "context")
_HEALING_OPTIONS = ("text", "tokens", "context", "trainable", "learning_rate")
_MEASURED_OPTIONS = ("evaluation", "evaluation_context", "windows")
_TEXT_OPTIONS = ("text", "tokens", "context")


def as_recipe(spec: JobSpec) -> str:
    """The whole spec as JSON: what is stored with the job and with its result."""
    return json.dumps(spec.model_dump(mode="json"), indent=2, ensure_ascii=False)


def as_curl(spec: JobSpec, origin: str) -> str:
    """The POST that queues the same job: every field, since a preset would fill what is left out."""
    body = json.dumps(spec.model_dump(mode="json"), ensure_ascii=False)
    url = shlex.quote(f"{origin.rstrip('/')}/api/v1/jobs")
    return f"curl -X POST {url} \\\n  -H 'Content-Type: application/json' \\\n  -d {shlex.quote(body)}"


def as_yaml(spec: JobSpec) -> str:
    """The whole spec as YAML, with what every field means."""
    return write_yaml(spec)


def as_command(spec: JobSpec, out: str = "converted") -> str:
    """The command with every setting that is not the default; what has no option goes in as a recipe."""
    if spec.kind == "profile":
        return _profile_command(spec)
    if spec.heal is not None:
        return _heal_command(spec, spec.heal)
    if spec.evaluate is not None:
        return _evaluate_command(spec, spec.evaluate)
    if any(getattr(spec, name) is not None for name in _NO_OPTION):
        # every value of a recipe stays on its line, so none can end the text early
        start = shlex.join(["mla-workbench", "convert", "--recipe", "-", "--out", out])
        return f"{start} <<'RECIPE'\n{write_yaml(spec)}RECIPE"
    words: list[str] = []
    for name, value in _options(spec).items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    for change in _changes(spec):
        words += ["--set", change]
    words += ["--out", out]
    # a name that starts like an option would be taken for one
    named = [*words, "--", spec.model] if spec.model.startswith("-") else [spec.model, *words]
    return shlex.join(["mla-workbench", "convert", *named])


def _heal_command(spec: JobSpec, healing: Healing) -> str:
    """The folder names its original and how it was converted; a commit of a model has no option."""
    usual = Healing(source=healing.source)
    options: dict[str, Any] = {} if spec.revision else {"teacher": spec.model}
    changed = _different(healing, usual)
    options |= {name: changed.pop(name) for name in _HEALING_OPTIONS if name in changed}
    options |= {name: value for name, value in _texts(spec).items() if name in _MEASURED_OPTIONS}
    options |= {} if spec.device == "auto" else {"device": spec.device}
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    for name, value in changed.items():
        words += ["--set", f"{name}={str(value).lower() if isinstance(value, bool) else value}"]
    return shlex.join(["mla-workbench", "heal", *words, "--out", "healed", "--", healing.source])


def _evaluate_command(spec: JobSpec, asked: Measurements) -> str:
    """The first conversion with its original as the base, or the original alone; lists one by one."""
    first, *others = asked.conversions or (spec.model,)
    options: list[tuple[str, Any]] = [("base", spec.model)] if asked.conversions else []
    options += [] if spec.revision is None else [("revision", spec.revision)]
    options += [("beside", one) for one in others]
    options += [("text", one) for one in asked.texts or ("none",)]
    options += [("context", one) for one in asked.contexts] + [("windows", asked.windows)]
    options += [("retrieval", one) for one in asked.retrieval]
    if asked.retrieval:
        options += [("retrieval-context", one) for one in asked.retrieval_contexts]
        options += [("samples", asked.samples), ("essay", asked.essay), ("seed", asked.seed)]
    options += [("harness", one) for one in asked.harness]
    finer = {"harness-folder": asked.harness_folder, "harness-limit": asked.harness_limit}
    options += [(name, one) for name, one in finer.items() if one is not None]
    options += [] if spec.device == "auto" else [("device", spec.device)]
    words = [word for name, value in options for word in (f"--{name}", str(value))]
    return shlex.join(["mla-workbench", "evaluate", *words, "--out", "evaluation", "--", first])


def _profile_command(spec: JobSpec) -> str:
    said = spec.model_dump(exclude_defaults=True)
    options: dict[str, Any] = {key: said[key] for key in ("revision", "device") if key in said}
    options |= {name: value for name, value in _texts(spec).items() if name in _PROFILE_OPTIONS}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return shlex.join(["mla-workbench", "profile", *words, "--", spec.model])


def _options(spec: JobSpec) -> dict[str, Any]:
    options: dict[str, Any] = {"preset": spec.preset or "none"}
    given = {
        "keep": spec.keep,
        "weights_keep": spec.weights_keep,
        "rope_dim": spec.rope_dim,
        "kv_rank": spec.kv_rank,
    }
    options |= {name: value for name, value in given.items() if value is not None}
    preset = PRESETS.get(spec.preset or "")
    if preset is not None and preset.weights_keep is not None and spec.weights_keep is None:
        options["weights_keep"] = "none"
    options |= _texts(spec)
    said = spec.model_dump(exclude_defaults=True)
    return options | {key: said[key] for key in _PLAIN if key in said}


def _changes(spec: JobSpec) -> list[str]:
    """What has no option of its own: the recipe where it is not the preset's, the finer calibration."""
    preset = PRESETS.get(spec.preset or "")
    rows = _different(spec.recipe, preset.recipe if preset else Recipe())
    finer = _different(spec.calibration, Calibration())
    rows |= {f"calibration.{name}": value for name, value in finer.items() if name not in _TEXT_OPTIONS}
    return [
        f"{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in rows.items()
    ]


def _different(found: Frozen, usual: Frozen) -> dict[str, Any]:
    expected = usual.model_dump()
    return {name: value for name, value in found.model_dump().items() if value != expected[name]}


def _texts(spec: JobSpec) -> dict[str, Any]:
    """What is measured on, by the name of its option, where it is not the default."""
    read, usual = spec.calibration, Calibration()
    rows = [
        ("calibration", read.text, usual.text),
        ("tokens", read.tokens, usual.tokens),
        ("context", read.context, usual.context),
    ]
    if spec.evaluation is None:
        rows.append(("evaluation", "none", ""))
    else:
        held, default = spec.evaluation, Evaluation()
        rows += [
            ("evaluation", held.text, default.text),
            ("evaluation_context", held.context, default.context),
            ("windows", held.windows, default.windows),
        ]
    return {name: value for name, value, default in rows if value != default}
