# SPDX-License-Identifier: Apache-2.0
"""The same request on the command line, over HTTP, and as a recipe file."""

import json
import shlex
from typing import Any

from core.presets import PRESETS
from core.spec import Calibration, Evaluation, JobSpec, Recipe

_PLAIN = ("revision", "dtype", "device", "shard_bytes")


def as_recipe(spec: JobSpec) -> str:
    """The whole spec as JSON: what is stored with the job and with its result."""
    return json.dumps(spec.model_dump(mode="json"), indent=2, ensure_ascii=False)


def as_curl(spec: JobSpec, origin: str) -> str:
    """The POST that queues the same job."""
    body = json.dumps(spec.model_dump(mode="json", exclude_defaults=True), ensure_ascii=False)
    url = shlex.quote(f"{origin.rstrip('/')}/api/v1/jobs")
    return f"curl -X POST {url} \\\n  -H 'Content-Type: application/json' \\\n  -d {shlex.quote(body)}"


def as_command(spec: JobSpec, out: str = "converted") -> str:
    """The convert command with every setting that is not the default."""
    words = ["mla-workbench", "convert", spec.model]
    for name, value in _options(spec).items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join([*words, "--out", out])


def _options(spec: JobSpec) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if spec.preset:
        options["preset"] = spec.preset
    if spec.rope_dim is not None and spec.kv_rank is not None:
        options |= {"rope_dim": spec.rope_dim, "kv_rank": spec.kv_rank}
    elif spec.keep is not None:
        options["keep"] = spec.keep
    preset = PRESETS.get(spec.preset or "")
    base = preset.recipe if preset else Recipe()
    chosen, usual = spec.recipe.model_dump(), base.model_dump()
    options |= {stage: choice for stage, choice in chosen.items() if choice != usual[stage]}
    for name, value, usual_value in (
        ("calibration", spec.calibration.text, Calibration().text),
        ("tokens", spec.calibration.tokens, Calibration().tokens),
        ("context", spec.calibration.context, Calibration().context),
        ("evaluation", spec.evaluation.text if spec.evaluation else "none", Evaluation().text),
    ):
        if value != usual_value:
            options[name] = value
    said = spec.model_dump(exclude_defaults=True)
    return options | {key: said[key] for key in _PLAIN if key in said}
