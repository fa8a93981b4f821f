# SPDX-License-Identifier: Apache-2.0
"""The stored request of a job, in words."""

from html import escape

from app.ui.format import THIN, integer
from app.ui.strings import STAGE_TITLES
from core.spec import JobSpec
from core.stages import STAGES


def spec_list(spec: JobSpec) -> str:
    """Every choice that shaped the result."""
    pairs = [
        ("Model", spec.model + (f" @ {spec.revision}" if spec.revision else "")),
        ("Budget", _budget(spec)),
        ("Preset", spec.preset or "none"),
        *((STAGE_TITLES[stage], getattr(spec.recipe, stage)) for stage in STAGES),
        ("Calibration", f"{spec.calibration.text}, {integer(spec.calibration.tokens)} tokens"),
        ("Evaluation", _evaluation(spec)),
        ("Weights", f"{spec.dtype}, on {spec.device}"),
    ]
    body = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in pairs)
    return f'<dl class="spec">{body}</dl>'


def _budget(spec: JobSpec) -> str:
    if spec.rope_dim is not None and spec.kv_rank is not None:
        return f"{spec.rope_dim} rope dims and a latent of {spec.kv_rank} per KV head"
    return f"keep {(spec.keep or 0) * 100:g}{THIN}%"


def _evaluation(spec: JobSpec) -> str:
    if spec.evaluation is None:
        return "not measured"
    one = spec.evaluation
    return f"{one.text}, {one.windows} windows of {integer(one.context)} tokens"
