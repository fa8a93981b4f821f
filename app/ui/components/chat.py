# SPDX-License-Identifier: Apache-2.0
"""A conversation with several models: each prompt once, the answers side by side with what they cost."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path

from app.services.chat import ChatModel
from app.ui.components.chips import source, term
from app.ui.components.messages import trouble
from app.ui.components.progress import model_name, recipe_name
from app.ui.format import THIN, byte_unit, integer, percent, size
from core.store.chat_views import OPEN, ChatHost, ChatTurn, TurnState
from core.store.views import JobView
from core.weights.locate import DEMO

Labels = Mapping[str, str]

# torch takes some seconds to import; later than this nobody was there to hear
_PATIENCE_SECONDS = 20.0
_TONES: Mapping[TurnState, str] = {
    TurnState.WAITING: "quiet",
    TurnState.LOADING: "busy",
    TurnState.STREAMING: "busy",
    TurnState.DONE: "good",
    TurnState.STOPPED: "quiet",
    TurnState.FAILED: "bad",
}
_ENDINGS: Mapping[str, str] = {
    "end": "done",
    "length": "at its limit",
    "context": "context full",
}


def model_label(one: ChatModel) -> str:
    """What the picker calls a model."""
    if one.job is not None:
        return f"{model_name(one.job)} → {recipe_name(one.job)} · job {one.job.id}"
    return "demo · SmolLM2-135M-Instruct, original" if one.model == DEMO else f"{one.model}, original"


def short_label(model: str, job: JobView | None) -> str:
    """What stands above its answers."""
    return f"{model_name(job)} → {recipe_name(job)}" if job else f"{Path(model).name or model}, original"


def memory_line(held: int | None, need: int | None) -> str:
    """Whether a chosen model is in memory, and what happens if it is not."""
    if held is not None:
        return f'<p class="caption"><span class="dot dot-on"></span>in memory, {size(held)}</p>'
    if need is None:
        return ""
    return f'<p class="caption"><span class="dot"></span>not in memory: your prompt loads {size(need)}</p>'


def budget_line(host: ChatHost | None) -> str:
    """What the process that answers takes of what it may take; that it is not there costs nothing."""
    if host is None:
        return '<p class="caption">No model is in memory: the first prompt takes a few seconds more.</p>'
    unit = byte_unit(host.budget_bytes)
    return (
        f'<p class="caption">The chat takes {size(host.memory_bytes, unit)} {source("measured")} of the '
        f"{size(host.budget_bytes, unit)} it may take; the model unused for longest makes room.</p>"
    )


def conversation(turns: Sequence[ChatTurn], labels: Labels, host: ChatHost | None) -> str:
    """Every turn in order; `labels` says what a model is called."""
    numbers = sorted({one.turn for one in turns})
    return "".join(_turn([one for one in turns if one.turn == number], labels, host) for number in numbers)


def _turn(turns: Sequence[ChatTurn], labels: Labels, host: ChatHost | None) -> str:
    prompt = f'<p class="asked">{escape(turns[0].prompt)}</p>'
    # one scale for all bars: the largest cache this turn can come to
    most = max(one.kv_bytes_per_token_base * (one.prompt_tokens + one.sampling.max_tokens) for one in turns)
    cards = "".join(_answer(one, labels.get(one.model, one.model), most, host) for one in turns)
    return f'<div class="turn">{prompt}<div class="answers of-{len(turns)}">{cards}</div></div>'


def _answer(turn: ChatTurn, label: str, most: int, host: ChatHost | None) -> str:
    is_open = turn.state in OPEN
    kind = "after" if _is_converted(turn) else "before"
    cursor = '<span class="cursor"></span>' if turn.state is TurnState.STREAMING else ""
    problem = trouble(turn.error, turn.hint) if turn.state is TurnState.FAILED else ""
    wait = f'<p class="caption">{escape(_waiting(turn, host))}</p>' if is_open and not turn.text else ""
    said = f'<div class="said">{escape(turn.text)}{cursor}</div>' if turn.text else ""
    return (
        f'<section class="answer" data-state="{turn.state}"><h2><span>'
        f'<i class="swatch {kind}"></i>{escape(label)}</span>'
        f'<span class="state state-{_TONES[turn.state]}">{_word(turn)}</span></h2>'
        f"{_numbers(turn, most, kind)}{said}{wait}{problem}</section>"
    )


def _is_converted(turn: ChatTurn) -> bool:
    return turn.model.startswith("job:") or 0 < turn.kv_bytes_per_token < turn.kv_bytes_per_token_base


def _word(turn: ChatTurn) -> str:
    if turn.state is TurnState.DONE:
        return _ENDINGS.get(turn.ending, turn.ending)
    if turn.state is TurnState.STREAMING and not turn.tokens:
        return "reading"
    return "writing" if turn.state is TurnState.STREAMING else turn.state.value


def _waiting(turn: ChatTurn, host: ChatHost | None) -> str:
    if turn.state is TurnState.STREAMING:
        return f"Reads the prompt, {integer(turn.prompt_tokens)} tokens."
    if turn.state is TurnState.LOADING:
        return "The model is being loaded."
    if host is not None and host.models:
        return "Waits for its turn: for another model to load, or to let go of its memory."
    waited = (datetime.now(UTC) - turn.created_at).total_seconds()
    if host is None and waited > _PATIENCE_SECONDS:
        return "No chat worker answers at the moment: 'mla-workbench serve' starts one."
    return "The process that answers is starting."


def _numbers(turn: ChatTurn, most: int, kind: str) -> str:
    """Speed and cache, as far as they are known."""
    if not turn.kv_bytes:
        return ""
    rate = turn.tokens_per_second
    speed = f"{rate:.1f}" if rate else "–"
    original = turn.kv_bytes_per_token_base * turn.cached_tokens
    agrees = turn.kv_bytes == turn.kv_bytes_per_token * turn.cached_tokens
    each = f"{integer(turn.cached_tokens)} tokens × {size(turn.kv_bytes_per_token)}"
    check = each if agrees else f"{each} by the formula, which disagrees"
    share = f"{percent(turn.kv_bytes / original)} of the original's" if original else ""
    beside = f" · {share} {size(original)}{source('calculated')}" if kind == "after" and original else ""
    return (
        f'<dl class="cost"><div><dt>tokens/s</dt><dd>{speed} {source("measured")}</dd></div>'
        f"<div><dt>{term('KV cache', 'kv')}</dt><dd>{size(turn.kv_bytes)} {source('measured')}</dd></div>"
        "</dl>"
        f"{_bar(turn.kv_bytes, original, most, kind)}"
        f'<p class="caption">{check}{beside}</p>'
    )


def _bar(now: int, original: int, most: int, kind: str) -> str:
    """What is cached, and for a converted model what the original would hold, on one scale."""

    def width(value: int) -> str:
        return f"width:{min(100.0, 100 * value / most):.2f}%" if most else "width:0"

    ghost = f'<i class="ghost" style="{width(original)}"></i>' if kind == "after" else ""
    return f'<div class="cache">{ghost}<i class="{kind}" style="{width(now)}"></i></div>'


def short_title(turns: Sequence[ChatTurn]) -> str:
    """What the browser's tab says."""
    is_open = any(one.state in OPEN for one in turns)
    return f"{'answering' + THIN + '· ' if is_open else ''}Chat"
