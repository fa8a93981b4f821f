# SPDX-License-Identifier: Apache-2.0
"""The controls of the chat: who is asked, how tokens are chosen, where one writes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.services.chat import MOST_MODELS, ChatModel
from app.ui.components.chat import model_label
from app.ui.components.messages import empty
from app.ui.strings import CHAT_EXAMPLES, CHAT_INTRO, CHAT_NOTHING_CONVERTED, CHAT_READY
from core.store.chat_views import ChatTurn, Sampling

_USUAL = Sampling()
_NONE = ("none", "")


@dataclass(frozen=True)
class Start:
    """What stands there before the first prompt."""

    whole: gr.Column
    words: gr.HTML
    examples: list[tuple[gr.Button, str]]


@dataclass(frozen=True)
class Composer:
    """Where one writes, and what one can do."""

    prompt: gr.Textbox
    ask: gr.Button
    stop: gr.Button
    fresh: gr.Button
    refused: gr.HTML


def head() -> None:
    """Title and promise."""
    gr.HTML(f'<h1>Chat</h1><p class="caption">{CHAT_INTRO}</p>')


def pickers() -> tuple[list[gr.Dropdown], list[gr.HTML]]:
    """One per column, with a line under it that says whether the model is in memory."""
    boxes, lines = [], []
    with gr.Row():
        for place in range(MOST_MODELS):
            with gr.Column(min_width=240, elem_classes="who"):
                boxes.append(
                    gr.Dropdown(
                        [_NONE],
                        value="",
                        allow_custom_value=True,
                        label=f"Model {place + 1}" if place < 2 else "Model 3, if you like",
                        elem_id=f"model-{place + 1}",
                    )
                )
                lines.append(gr.HTML(elem_id=f"memory-{place + 1}"))
    return boxes, lines


def sampling() -> dict[str, Any]:
    """The boxes of Sampling, by field."""
    with gr.Accordion("Sampling", open=False):
        with gr.Row():
            temperature = gr.Slider(
                0, 2, _USUAL.temperature, step=0.05, label="Temperature", info="0: always the likeliest token"
            )
            top_p = gr.Slider(
                0.05,
                1,
                _USUAL.top_p,
                step=0.05,
                label="Top p",
                info="choose among the likeliest of this total",
            )
        with gr.Row():
            seed = gr.Number(
                _USUAL.seed, label="Seed", info="the same noise for every model", precision=0, minimum=0
            )
            longest = gr.Number(
                _USUAL.max_tokens, label="Longest answer, tokens", info="1 to 4096", precision=0, minimum=1
            )
    return {"temperature": temperature, "top_p": top_p, "seed": seed, "max_tokens": longest}


def sampling_of(turns: Sequence[ChatTurn]) -> list[Any]:
    """The values a stored turn was asked with, in the order of `sampling`."""
    found = turns[0].sampling
    return [found.temperature, found.top_p, found.seed, found.max_tokens]


def start() -> Start:
    """One sentence, and prompts that need one click."""
    with gr.Column(elem_classes="sheet", elem_id="start", visible=False) as whole:
        words = gr.HTML()
        with gr.Column(elem_id="examples"):
            examples = [(gr.Button(one, size="md"), one) for one in CHAT_EXAMPLES]
    return Start(whole, words, examples)


def start_words(has_converted: bool) -> str:
    """What there is to do here."""
    if has_converted:
        return empty(CHAT_READY)
    link = '<p class="buttons"><a class="button primary" href="/">Convert a model</a></p>'
    return empty(CHAT_NOTHING_CONVERTED) + link


def composer() -> Composer:
    """Prompt and buttons, always in view."""
    with gr.Column(elem_id="composer"):
        refused = gr.HTML(elem_id="refused")
        with gr.Row():
            prompt = gr.Textbox(
                label="Prompt",
                show_label=False,
                container=False,
                placeholder="Your prompt",
                lines=1,
                max_lines=8,
                scale=8,
                elem_id="prompt",
            )
            fresh = gr.Button("New conversation", variant="secondary", visible=False, elem_id="fresh")
            stop = gr.Button("Stop", variant="stop", visible=False, elem_id="stop")
            # until the page knows its models there is nobody to ask
            ask = gr.Button("Ask", variant="primary", interactive=False, elem_id="ask")
    return Composer(prompt, ask, stop, fresh, refused)


def first_choice(known: Sequence[ChatModel], asked: str) -> list[str]:
    """What the address names; without it the newest result beside its original, or the original alone."""
    named = [one.strip() for one in asked.split(",") if one.strip()][:MOST_MODELS]
    if named:
        return named
    newest = next((one for one in known if one.job is not None), None)
    return [newest.base, newest.model] if newest else [known[0].model]


def filled(known: Sequence[ChatModel], chosen: Sequence[str]) -> list[gr.Dropdown]:
    """The pickers with their choices."""
    offered = [(model_label(one), one.model) for one in known]
    names = [*chosen, *[""] * MOST_MODELS][:MOST_MODELS]
    return [
        gr.Dropdown(choices=offered if place == 0 else [*offered, _NONE], value=name)
        for place, name in enumerate(names)
    ]
