# SPDX-License-Identifier: Apache-2.0
"""What a healing takes, beside its form: time, steps, speed, and where the model stands now."""

from html import escape

from app.services.healing import HealingEstimate
from app.services.healing_time import HealingTime
from app.ui.components.chips import source, term
from app.ui.components.progress import model_name, recipe_name
from app.ui.format import integer, number, ratio, rough_duration
from core.spec import Healing
from core.store.views import JobView

_TITLE = "<h2>What it takes</h2>"
_UNKNOWN = "known once a first job was done here; the first steps of the healing say it, too"


def heading(job: JobView) -> str:
    """Which model is healed, with a link to the job that made it."""
    return (
        f'<div class="pagehead"><h1>Heal {escape(model_name(job))}</h1>'
        f'<a href="/jobs/{escape(job.id)}">{escape(recipe_name(job))} · job {escape(job.id)}</a></div>'
    )


def healing_card(job: JobView, found: HealingEstimate) -> str:
    """Says what is missing instead of showing a guess."""
    healing = found.spec.heal if found.spec else None
    if healing is None or found.problems:
        body = '<p class="empty">What to change is written beside the field.</p>'
        return f'<section class="card">{_TITLE}{body}</section>'
    time = f"about {rough_duration(found.time.seconds)}" if found.time else "time not known yet"
    mark = source("estimated") if found.time else ""
    return f"""<section class="card">{_TITLE}
<div class="headline"><span>{time}</span></div>
<p class="caption">on this machine {mark}</p>
<dl class="rows">{_row("Speed", _speed(found.time))}{_row("Steps", _steps(healing))}
{_row("Now", _now(job))}{_row("After", "measured by the job; it stops early when it no longer helps")}</dl>
</section>"""


def _row(name: str, words: str) -> str:
    return f"<dt>{name}</dt><dd>{words}</dd>" if words else ""


def _speed(time: HealingTime | None) -> str:
    if time is None:
        return _UNKNOWN
    speed = f"{integer(time.tokens_per_second)} tokens/s {source(time.speed_is)}"
    if time.job is None:
        return f"{speed}<br><small>calculated from how fast the last job ran here</small>"
    link = f'<a href="/jobs/{escape(time.job)}">job {escape(time.job)}</a>'
    how = "as in" if time.speed_is == "measured" else "scaled from"
    return f"{speed}<br><small>{how} {link}, the last healing of this model</small>"


def _steps(healing: Healing) -> str:
    return f"{integer(healing.steps)} of {integer(healing.step_tokens)} tokens"


def _now(job: JobView) -> str:
    parts = []
    if (change := job.metrics.get("perplexity_ratio")) is not None:
        parts.append(f"{term('perplexity', 'perplexity')} {ratio(change)}")
    if (divergence := job.metrics.get("kl_to_base")) is not None:
        parts.append(f"{term('KL', 'kl')} {number(divergence)}")
    return f"{', '.join(parts)} {source('measured')}" if parts else "not measured"
