# SPDX-License-Identifier: Apache-2.0
"""Where a job is: its state in words, the stages passed, layer i of n, time spent and left."""

from datetime import UTC, datetime
from html import escape
from pathlib import Path

from app.services.queue import Expected
from app.ui.components.chips import state as state_chip
from app.ui.components.messages import trouble
from app.ui.components.state_words import state_words
from app.ui.format import THIN, duration, short_tokens, size
from app.ui.strings import STAGE_WORDS, STATE_WORDS, preset_title
from core.events import STAGES
from core.store.views import ACTIVE, JobView, State


def job_title(job: JobView) -> str:
    """What the browser's tab says."""
    progress = f" {job.done}/{job.total}" if job.state in ACTIVE and job.total else ""
    return f"{STATE_WORDS[job.state]}{progress} · {model_name(job)}"


def model_name(job: JobView) -> str:
    """The last part of a path or Hub id: what tells models apart at a glance."""
    return Path(job.spec.model).name or job.spec.model


def recipe_name(job: JobView) -> str:
    """Budget and preset in a few characters."""
    spec = job.spec
    if spec.kind == "profile":
        return f"profile · {spec.calibration.text}"
    if spec.evaluate is not None:
        return (
            f"evaluation · {', '.join(one.rpartition('/')[2] for one in spec.evaluate.texts) or 'retrieval'}"
        )
    if spec.layer_ranks is not None:
        budget = "ranks by layer"
    elif spec.kv_rank is not None:
        rotary = f"rotary {spec.rope_dim}, " if spec.rope_dim else ""
        budget = f"{rotary}latent {spec.kv_rank} per head"
    else:
        budget = f"{(spec.keep or 0) * 100:g}{THIN}%"
    if spec.weights_keep is not None:
        budget += f", weights {spec.weights_keep * 100:g}{THIN}%"
    healed = f" · healed {short_tokens(spec.heal.tokens)}" if spec.heal else ""
    return f"{budget} · {preset_title(spec.preset) if spec.preset else 'own recipe'}{healed}"


def job_head(job: JobView, has_worker: bool, soon: Expected | None = None) -> str:
    """Title, state, stages and the line that says what happens now."""
    return f"""<div class="jobhead"><div class="title"><h1>{escape(model_name(job))}</h1>
<span class="recipe">{escape(recipe_name(job))}</span>
<span class="recipe">job {escape(job.id)}</span>{_relations(job)}<span class="spacer"></span>
{state_chip(job.state)}<span class="elapsed">{_elapsed(job)}</span></div>
{_stepper(job)}{_bar(job)}{_now_line(job, has_worker, soon)}{_failure(job)}</div>"""


def _relations(job: JobView) -> str:
    """Links to what it belongs to and what it came from."""
    sweep = f'<a href="/sweep?id={escape(job.sweep_id)}">sweep</a>' if job.sweep_id else ""
    if job.parent_id is None:
        return sweep
    parent = escape(job.parent_id)
    heals = job.spec.heal is not None and Path(job.spec.heal.source).parent.name == job.parent_id
    how = "heals" if heals else "cloned from"
    return f'{sweep}<a href="/jobs/{parent}">{how} {parent}</a>'


def _elapsed(job: JobView) -> str:
    if job.started_at is None:
        return ""
    end = job.finished_at or datetime.now(UTC)
    return duration((end - job.started_at).total_seconds())


def _stepper(job: JobView) -> str:
    stages = STAGES[job.spec.kind]
    reached = stages.index(job.stage) if job.stage in stages else -1
    steps = [_step("queued", "now" if job.state is State.QUEUED else "past", "")]
    for index, stage in enumerate(stages):
        mark = "past" if index < reached or job.state is State.DONE else "now" if index == reached else "next"
        if mark == "now" and job.state in (State.FAILED, State.CANCELLED, State.INTERRUPTED, State.PAUSED):
            mark = "stopped"
        count = f"{job.done}/{job.total}" if index == reached and job.total and mark != "past" else ""
        steps.append(_step(STAGE_WORDS[stage], mark, count))
    steps.append(_step("done", "past" if job.state is State.DONE else "next", ""))
    return f'<ol class="steps">{"".join(steps)}</ol>'


def _step(word: str, mark: str, count: str) -> str:
    return f'<li class="{mark}"><span>{word}</span><small>{count}</small></li>'


def _bar(job: JobView) -> str:
    if job.state not in ACTIVE or not job.total:
        return ""
    return f'<progress max="{job.total}" value="{job.done}"></progress>'


def _now_line(job: JobView, has_worker: bool, soon: Expected | None) -> str:
    words = _now(job, has_worker, soon)
    return f'<p class="now">{words}</p>' if words else ""


def _now(job: JobView, has_worker: bool, soon: Expected | None) -> str:
    match job.state:
        case State.QUEUED if not has_worker:
            return "Waits for a worker; none is running at the moment."
        case State.QUEUED:
            words = state_words(job, soon)
            return f"{words[0].upper()}{words[1:]}."
        case State.CANCELLING:
            return f"Stops at the end of the current {_unit(job)}; finished {_unit(job)}s are kept."
        case State.CANCELLED:
            return f"Stopped on request. Resume continues after the last finished {_unit(job)}."
        case State.PAUSING:
            return f"Pauses at the end of the current {_unit(job)}; finished {_unit(job)}s are kept."
        case State.PAUSED:
            return f"Paused. Resume continues after the last finished {_unit(job)}."
        case State.INTERRUPTED:
            return f"{escape(job.reason or 'The worker went away')}. It is queued again by itself."
        case State.RUNNING | State.VERIFYING:
            left = f" · about {duration(job.eta_seconds)} left in this stage" if job.eta_seconds else ""
            return f"{escape(job.message or 'Starting…')}{left}"
        case _:
            return ""


def _unit(job: JobView) -> str:
    """What is finished or not when a job stops."""
    return "step" if job.spec.heal else "layer"


def _failure(job: JobView) -> str:
    if job.state is not State.FAILED:
        return ""
    peak = f"<p>Peak memory {size(job.peak_memory_bytes)}</p>" if job.peak_memory_bytes else ""
    log = f'<div class="frame"><pre class="log">{escape(job.log_tail)}</pre></div>' if job.log_tail else ""
    where = f"<p>Stopped in stage “{escape(STAGE_WORDS.get(job.stage, job.stage))}”"
    where = f"{where}, {job.done} of {job.total}.</p>" if job.stage and job.total else ""
    return trouble(job.reason or "The job failed", job.hint) + where + peak + log
