# SPDX-License-Identifier: Apache-2.0
"""Chat: up to three models answer the same prompt side by side, each with its speed and growing cache."""

import json
from collections.abc import Sequence
from typing import Any

import gradio as gr

from app.services import chat
from app.services.errors import NotFoundError
from app.services.workbench import Workbench
from app.ui.components import chat as parts
from app.ui.components.messages import failure
from app.ui.components.shell import top_bar
from app.ui.events import QUIET, SET_TITLE
from app.ui.pages import chat_boxes, chat_past
from core.errors import WorkbenchError
from core.store.chat_views import OPEN, ChatHost, ChatTurn

# five looks a second while something is written, none otherwise
_SECONDS = 0.2
_READ_ADDRESS = (
    "() => { const q = new URLSearchParams(window.location.search);"
    " return JSON.stringify({models: q.get('models') || '', session: q.get('session') || ''}) }"
)
# the address can be sent to somebody else, and a reload finds the conversation again
_KEEP_ADDRESS = (
    "(session, ...models) => history.replaceState(null, '', '/chat?models='"
    " + models.filter(Boolean).map(encodeURIComponent).join(',') + (session ? '&session=' + session : ''))"
)
_FOLLOW = (
    "() => { const page = document.scrollingElement;"
    " if (page.scrollHeight - page.scrollTop - page.clientHeight < 320) page.scrollTo(0, page.scrollHeight) }"
)
_READ_DRAFT = "(text) => text || window.mlaDraft.read()"
# an asked prompt leaves the box without a key
_KEEP_DRAFT = "(text) => window.mlaDraft.keep(text)"


def build(workbench: Workbench, page: gr.Blocks) -> None:
    """Lay out the page and attach its handlers."""
    top_bar(workbench, page, "/chat")
    chat_boxes.head()
    query, session = gr.Textbox(visible="hidden"), gr.Textbox(visible="hidden", elem_id="session")
    title, seen = gr.Textbox(visible="hidden"), gr.State("")
    with gr.Column(elem_classes="sheet"):
        pickers, memory = chat_boxes.pickers()
        budget = gr.HTML(elem_id="budget")
        sampling = chat_boxes.sampling()
        earlier = chat_past.past()
    start = chat_boxes.start()
    past, live = gr.HTML(elem_id="past"), gr.HTML(elem_id="live")
    box = chat_boxes.composer()
    timer = gr.Timer(_SECONDS, active=False)
    moving = [live, box.ask, box.stop, timer, seen, title, budget, *memory]
    whole = [session, start.whole, box.fresh, earlier.whole, earlier.table, past, *moving]
    values = [*sampling.values()]

    def on_open(asked: str) -> list[Any]:
        wanted = json.loads(asked or "{}")
        turns = _turns(workbench, wanted.get("session", ""))
        known = chat.models(workbench)
        chosen = [one.model for one in _last(turns)] or chat_boxes.first_choice(
            known, wanted.get("models", "")
        )
        entered = chat_boxes.sampling_of(_last(turns)) if turns else [gr.skip()] * len(values)
        filled = chat_boxes.filled(known, chosen)
        return [*filled, *entered, start_words(known), *_show(workbench, turns, chosen)]

    def start_words(known: Sequence[chat.ChatModel]) -> Any:
        return chat_boxes.start_words(any(one.job for one in known))

    def on_ask(conversation: str, prompt: str, *entered: Any) -> list[Any]:
        models, numbers = _split(entered, len(pickers))
        try:
            sampled = chat.read_sampling(dict(zip(sampling, numbers, strict=True)))
            asked = chat.ask(workbench, models, prompt or "", sampled, conversation or None)
        except WorkbenchError as error:
            return [gr.skip(), failure(error), *[gr.skip()] * len(whole)]
        return ["", "", *_show(workbench, _turns(workbench, asked[0].session), models)]

    def on_look(conversation: str, before: str, *chosen: Any) -> list[Any]:
        return _look(workbench, _turns(workbench, conversation), _named(chosen), before)

    def on_stop(conversation: str, *chosen: Any) -> list[Any]:
        if conversation:
            workbench.store.chat.request_stop(conversation)
        return _look(workbench, _turns(workbench, conversation), _named(chosen), "")

    def on_fresh(*chosen: Any) -> list[Any]:
        return _show(workbench, [], _named(chosen))

    def on_act(conversation: str, event: gr.EventData, *chosen: Any) -> list[Any]:
        chat_past.delete(workbench, event)
        # the open one goes on being shown, unless it was the one that was deleted
        return _show(workbench, _turns(workbench, conversation), _named(chosen))

    boxes = [*pickers, *values]
    page.load(on_open, query, [*boxes, start.words, *whole], js=_READ_ADDRESS, **QUIET)
    asking = [session, box.prompt, *boxes]
    gr.on([box.ask.click, box.prompt.submit], on_ask, asking, [box.prompt, box.refused, *whole], **QUIET)
    for button, example in start.examples:
        button.click(lambda text=example: text, None, box.prompt, **QUIET).then(
            on_ask, asking, [box.prompt, box.refused, *whole], **QUIET
        )
    timer.tick(on_look, [session, seen, *pickers], moving, **QUIET)
    box.stop.click(on_stop, [session, *pickers], moving, **QUIET)
    earlier.table.click(on_act, [session, *pickers], whole, **QUIET)
    gr.on([box.fresh.click, *(one.input for one in pickers)], on_fresh, pickers, whole, **QUIET)
    gr.on(
        [session.change, *(one.change for one in pickers)], None, [session, *pickers], None, js=_KEEP_ADDRESS
    )
    live.change(None, None, None, js=_FOLLOW)
    title.change(None, title, None, js=SET_TITLE)
    # what is half written outlives a reload; it never leaves the browser before it is asked
    page.load(None, box.prompt, box.prompt, js=_READ_DRAFT)
    box.prompt.change(None, box.prompt, None, js=_KEEP_DRAFT)


def _turns(workbench: Workbench, conversation: str) -> list[ChatTurn]:
    try:
        return chat.read(workbench, conversation) if conversation else []
    except NotFoundError:
        return []


def _labels(workbench: Workbench, turns: Sequence[ChatTurn]) -> dict[str, str]:
    names = {one.model for one in turns}
    return {name: parts.short_label(name, chat.job_of(workbench, name)) for name in names}


def _memory_line(workbench: Workbench, model: str, host: ChatHost | None) -> str:
    held = next((one.bytes for one in host.models if one.model == model), None) if host else None
    # headers are read only for what is not in memory: a page that streams asks five times a second
    need = chat.bytes_of(workbench, model) if model and held is None else None
    return parts.memory_line(held, need)


def _last(turns: Sequence[ChatTurn]) -> list[ChatTurn]:
    return [one for one in turns if one.turn == turns[-1].turn]


def _split(entered: Sequence[Any], models: int) -> tuple[list[str], list[Any]]:
    return _named(entered[:models]), [*entered[models:]]


def _named(chosen: Sequence[Any]) -> list[str]:
    """The models that are chosen, columns left empty left out."""
    return [str(one).strip() for one in chosen if one and str(one).strip()]


def _show(workbench: Workbench, turns: Sequence[ChatTurn], models: Sequence[str]) -> list[Any]:
    """Everything about a conversation, in the order of `whole`."""
    host = workbench.store.chat.host()
    earlier = [one for one in turns if one.turn != turns[-1].turn]
    conversation = turns[0].session if turns else ""
    return [
        conversation,
        gr.Column(visible=not turns),
        gr.Button(visible=bool(turns)),
        *chat_past.shown(workbench, conversation),
        parts.conversation(earlier, _labels(workbench, earlier), host),
        *_look(workbench, turns, models, ""),
    ]


def _look(workbench: Workbench, turns: Sequence[ChatTurn], models: Sequence[str], before: str) -> list[Any]:
    """What moves, in the order of `moving`; left alone where nothing has changed."""
    last, host = _last(turns), workbench.store.chat.host()
    is_open = any(one.state in OPEN for one in last)
    now = "|".join(f"{one.state} {one.updated_at}" for one in last) + str(host)
    # what waits says how long, so it is drawn anew each time
    if before == now and not any(one.state == "waiting" for one in last):
        return [gr.skip()] * (7 + chat.MOST_MODELS)
    lines = [_memory_line(workbench, one, host) for one in [*models, *[""] * chat.MOST_MODELS]]
    return [
        parts.conversation(last, _labels(workbench, last), host),
        gr.Button(visible=not is_open, interactive=True),
        gr.Button(visible=is_open),
        gr.Timer(active=is_open),
        now,
        parts.short_title(last),
        parts.budget_line(host),
        *lines[: chat.MOST_MODELS],
    ]
