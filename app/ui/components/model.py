# SPDX-License-Identifier: Apache-2.0
"""A model as HTML: one line among others, what it is, its profile, and its finished jobs as links."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from app.services.compare import MOST
from app.services.known_models import KnownModel
from app.services.pareto import ParetoPoint
from app.services.profiles import StoredProfile
from app.ui.components.chips import source, state, term
from app.ui.components.progress import recipe_name
from app.ui.components.tables import framed, labelled
from app.ui.format import THIN, ago, context, count, integer, ratio, size
from app.ui.strings import preset_title
from core.facts import ModelFacts
from core.store.views import JobView


def model_address(name: str) -> str:
    """The page about one model."""
    return f"/models?model={quote(name, safe='')}"


def model_table(models: Sequence[KnownModel]) -> str:
    """Every known model, a link each."""
    head = "".join(
        f"<th>{title}</th>" for title in ("model", "shape", "KV cache per token", "profile", "jobs")
    )
    return framed("models", "".join(map(_model_row, models)), head=f"<tr>{head}</tr>")


def _model_row(model: KnownModel) -> str:
    facts = model.facts
    shape = f"{escape(facts.family)}, {facts.layers} layers" if facts else "open it to read its shape"
    cost = size(facts.kv_bytes_per_token) if facts else "–"
    return (
        f'<tr><td><a href="{model_address(model.name)}" title="{escape(model.name)}">'
        f"{escape(Path(model.name).name or model.name)}</a></td>"
        f"<td>{shape}</td><td>{cost}</td><td>{'yes' if model.has_profile else '–'}</td>"
        f"<td>{model.jobs}</td></tr>"
    )


def model_head(facts: ModelFacts, points: Sequence[ParetoPoint]) -> str:
    """Its name, the whole of it where that says more, and what one does with it."""
    name = Path(facts.name).name or facts.name
    whole = facts.name + (f" @ {facts.revision}" if facts.revision else "")
    more = f'<span class="caption">{escape(whole)}</span>' if whole != name else ""
    return (
        f'<p class="back"><a href="/models">All models</a></p>'
        f'<div class="modelname"><h1>{escape(name)}</h1>{more}</div>{_steps(facts, points)}'
    )


def _steps(facts: ModelFacts, points: Sequence[ParetoPoint]) -> str:
    name, best = quote(facts.name, safe=""), [point.job for point in points if point.is_best][:MOST]
    links = [("Chat", f"/chat?models={name}"), ("Try several budgets", f"/sweep?model={name}")]
    if len(best) > 1:
        links.append((f"Compare the {len(best)} best jobs", f"/compare?jobs={','.join(best)}"))
    body = "".join(f'<a class="button" href="{escape(address)}">{words}</a>' for words, address in links)
    return f'<p class="buttons">{body}</p>'


def model_facts(facts: ModelFacts) -> str:
    """Shape, positions, size, and what its cache costs."""
    share = facts.heads // max(1, facts.kv_heads)
    shared = f", {share} query heads share one" if share > 1 else ""
    positions = (
        (term("RoPE", "rope"), f"{escape(facts.rope_type)}, base {integer(facts.rope_theta)}")
        if facts.rotary_dim
        else ("Positions", "learned: no rotation")
    )
    rotary = f", {facts.rotary_dim // 2} {term('rotary pairs', 'rope_pair')}" if facts.rotary_dim else ""
    pairs = [
        ("Family", escape(facts.family)),
        ("Layers", integer(facts.layers)),
        (
            term("Attention", "mha"),
            f"{facts.attention_kind}: {facts.heads} heads, {facts.kv_heads} with keys and values{shared}",
        ),
        ("Head", f"{facts.head_dim} dims{rotary}"),
        positions,
        ("Width", integer(facts.hidden_size)),
        ("Context", f"{context(facts.max_context)} tokens" if facts.max_context else "not said"),
        ("Vocabulary", integer(facts.vocab_size)),
        ("Parameters", f"{count(facts.parameters)}{source('calculated')}"),
        ("Weights", f"{size(facts.weight_bytes)}, {escape(facts.dtype)}"),
        (
            term("KV cache", "kv"),
            f"{size(facts.kv_bytes_per_token)} per token{source('calculated')}",
        ),
        ("per token and layer", f"{integer(facts.kv_numbers_per_layer)} numbers"),
    ]
    body = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in pairs)
    return f'<dl class="spec">{body}</dl>'


def profile_facts(stored: StoredProfile, spreads: Mapping[str, float]) -> str:
    """What the profile is of, and how far its predictions may be off."""
    off = ", ".join(f"{escape(preset_title(name))} {ratio(spread)}" for name, spread in spreads.items())
    made = stored.made_at.isoformat(timespec="seconds")
    pairs = [
        ("Text", f"{_texts(stored.text)}, {integer(stored.tokens)} tokens"),
        ("Made", f'<time datetime="{made}" title="{made}">{ago(stored.made_at)}</time>'),
        ("Size", f"{size(stored.bytes)}{source('measured')}"),
        ("Losses are off by at most, either way", f"{off}{source('measured')}" if off else "–"),
    ]
    body = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in pairs)
    return f'<dl class="spec">{body}</dl>'


def _texts(names: str) -> str:
    """Several are joined by +; a file is called by its name, its path is one hover away."""
    short = " + ".join(Path(one).name for one in names.split("+"))
    return f'<span title="{escape(names)}">{escape(short)}</span>'


def model_jobs(jobs: Sequence[JobView], total: int) -> str:
    """Jobs of one model, newest first, each a link to its page."""
    head = "".join(
        f"<th>{title}</th>" for title in ("job", "state", "cache per token", "perplexity", "submitted")
    )
    more = f'<p class="caption">{len(jobs)} of {total}, newest first</p>' if total > len(jobs) else ""
    return framed("jobs", "".join(map(_job_row, jobs)), head=f"<tr>{head}</tr>", frame="frame tall") + more


def _job_row(job: JobView) -> str:
    cached, change = (job.metrics.get(name) for name in ("kv_bytes_per_token_measured", "perplexity_ratio"))
    name = "profile" if job.spec.kind == "profile" else recipe_name(job)
    created = job.created_at.isoformat(timespec="seconds")
    return (
        f'<tr><th scope="row"><a href="/jobs/{escape(job.id)}">{escape(name)}</a></th>'
        f'<td class="status">{state(job.state)}</td>'
        f"{labelled('cache', size(cached) if cached is not None else '')}"
        f"{labelled('perplexity', ratio(change) if change is not None else '')}"
        f'<td class="when"><time datetime="{created}" title="{created}">{ago(job.created_at)}</time>'
        "</td></tr>"
    )


def point_list(points: Sequence[ParetoPoint]) -> str:
    """The points of the plot as links, for those who do not point and click."""
    head = "<tr><th>job</th><th>cache</th><th>perplexity</th></tr>"
    rows = "".join(
        f'<tr{" class=best" if point.is_best else ""}><td><a href="/jobs/{escape(point.job)}">'
        f"{_percent(point.keep)} · {escape(preset_title(point.preset) if point.preset else 'own recipe')}"
        f"</a></td><td>{size(point.bytes_per_token)}</td><td>{ratio(point.perplexity_ratio)}</td></tr>"
        for point in points
    )
    note = '<p class="caption">Strong: no other job is smaller and better.</p>' if points else ""
    return framed("points", rows, head=head, frame="frame tall") + note


def _percent(part: float) -> str:
    return f"{round(part * 100, 2):g}{THIN}%"
