# SPDX-License-Identifier: Apache-2.0
"""What an evaluation takes, beside its form: time, what is read, and how sharp its figures can be."""

from html import escape

from app.services.measuring import EvaluationEstimate, tokens_read
from app.ui.components.chips import source
from app.ui.components.progress import model_name, recipe_name
from app.ui.format import integer, rough_duration, short_tokens
from core.further.pieces import pieces_of
from core.further.spec import Measurements
from core.store.views import JobView

_TITLE = "<h2>What it takes</h2>"


def heading(job: JobView) -> str:
    """Which model is measured, with a link to the job that made it."""
    return (
        f'<div class="pagehead"><h1>Evaluate {escape(model_name(job))} further</h1>'
        f'<a href="/jobs/{escape(job.id)}">{escape(recipe_name(job))} · job {escape(job.id)}</a></div>'
    )


def evaluation_card(found: EvaluationEstimate) -> str:
    """Says what is missing instead of showing a guess."""
    asked = found.spec.evaluate if found.spec else None
    if asked is None or found.problems:
        body = '<p class="empty">What to change is written beside the field.</p>'
        return f'<section class="card">{_TITLE}{body}</section>'
    time = f"about {rough_duration(found.seconds)}" if found.seconds else "time not known yet"
    mark = source("estimated") if found.seconds else ""
    how = f"on this machine {mark}" if found.seconds else "known once a first job was done here"
    return f"""<section class="card">{_TITLE}
<div class="headline"><span>{time}</span></div>
<p class="caption">{how}</p>
<dl class="rows">{_row("Measurements", _pieces(asked))}{_row("Read in all", _read(asked))}
{_row("Texts", _texts(asked))}{_row("Retrieval", _retrieval(asked))}{_row("lm-eval", _harness(asked))}
{_row("Kept", "every finished measurement: cancel and resume as you like")}</dl>
</section>"""


def _row(name: str, words: str) -> str:
    return f"<dt>{name}</dt><dd>{words}</dd>" if words else ""


def _pieces(asked: Measurements) -> str:
    pieces = len(pieces_of(asked, "", asked.conversions, asked.harness))
    models = 1 + len(asked.conversions)
    return f"{pieces}, of {models} model{'s' if models > 1 else ''}"


def _read(asked: Measurements) -> str:
    tokens = tokens_read(asked)
    return f"{short_tokens(round(tokens, -3)) if tokens >= 10_000 else integer(tokens)} tokens"


def _texts(asked: Measurements) -> str:
    """The smallest p that these windows can give, before anybody hopes for a smaller one."""
    if not (asked.texts and asked.contexts):
        return "not measured"
    count = len(asked.texts) * len(asked.contexts)
    many = f"{count} of {asked.windows} windows each" if count > 1 else f"{asked.windows} windows"
    if asked.windows == 1:
        return f"{many}<br><small>one window has no interval and no test</small>"
    # more than 16 pairs are drawn, not counted out: see core/evaluate/paired.py
    least = 2 / 2**asked.windows if asked.windows <= 16 else 1e-5
    longest = f"by position up to {integer(max(asked.contexts))} tokens; "
    return f"{many}<br><small>{longest}p is at least {least:.1g}, however large the loss</small>"


def _retrieval(asked: Measurements) -> str:
    if not asked.retrieval:
        return "not measured"
    # Wilson's interval at half of the answers right: there it is widest
    half = 98 / (asked.samples + 3.84) ** 0.5
    count = len(asked.retrieval) * len(asked.retrieval_contexts)
    return f"{count} × {asked.samples} questions<br><small>intervals up to ± {half:.0f} points</small>"


def _harness(asked: Measurements) -> str:
    return f"{len(asked.harness)} names<br><small>not in the time</small>" if asked.harness else ""
