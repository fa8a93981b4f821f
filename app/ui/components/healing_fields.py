# SPDX-License-Identifier: Apache-2.0
"""The boxes of the healing form; those under More follow the fields of Healing."""

from collections.abc import Sequence
from typing import Any, Literal, get_args, get_origin

import gradio as gr

from app.ui.components.fields import UPLOAD_NOTE, UPLOAD_TEXT, Boxes, evaluation_choices, text_choices
from app.ui.format import short_tokens
from app.ui.healing_form import AMOUNTS, MORE, initial
from app.ui.strings import HEALING_TITLES, TRAINABLE_WORDS, UPLOAD_HINT
from core.spec import Evaluation, Healing

# no field: the choice that fills the tokens
AMOUNT = "amount"


def healing_boxes() -> tuple[Boxes, dict[str, gr.HTML], gr.Accordion]:
    """Boxes by field, places for what is wrong by slot, and the fold around the finer ones."""
    usual = initial()
    boxes: Boxes = {}
    notes: dict[str, gr.HTML] = {}
    boxes |= _amount(usual["tokens"])
    notes["tokens"] = gr.HTML(elem_id="wrong-heal-tokens")
    boxes["text"] = gr.Dropdown(
        text_choices(),
        value=usual["text"],
        allow_custom_value=True,
        label="Text to learn from",
        info="named, or a UTF-8, .jsonl or .parquet file, or hub:OWNER/NAME; several: wikipedia:0.8,news:0.2",
        elem_id="heal-text",
    )
    notes["text"] = gr.HTML(elem_id="wrong-heal-text")
    with gr.Row(elem_classes="upload-bar"):
        boxes[UPLOAD_TEXT] = gr.UploadButton("Upload a text", size="sm", elem_id="upload-text")
        boxes[UPLOAD_NOTE] = gr.HTML(UPLOAD_HINT, elem_id="upload-note")
    boxes["trainable"] = gr.Radio(
        [(TRAINABLE_WORDS[one], one) for one in get_args(Healing.model_fields["trainable"].annotation)],
        value=usual["trainable"],
        label="What learns",
        elem_id="heal-trainable",
    )
    notes["trainable"] = gr.HTML(elem_id="wrong-heal-trainable")
    boxes["learning_rate"] = _box("learning_rate", usual["learning_rate"])
    notes["learning_rate"] = gr.HTML(elem_id="wrong-heal-rate")
    with gr.Accordion("More", open=False, elem_id="heal-more") as more:
        inside, beside = _more(usual)
    notes["whole"] = gr.HTML(elem_id="wrong-heal")
    return boxes | inside, notes | beside, more


def amount_choices(times: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Label and value; `times` says how long each takes here; the first line of a label is its title."""
    about = times or ("",) * len(AMOUNTS)
    lines = [
        (words, f"{short_tokens(tokens)} tokens", time)
        for (words, tokens), time in zip(AMOUNTS.values(), about, strict=True)
    ]
    return [("\n".join(filter(None, one)), name) for name, one in zip(AMOUNTS, lines, strict=True)]


def _amount(tokens: int) -> Boxes:
    amount = gr.Radio(
        amount_choices(), value="usual", show_label=False, container=False, label="Tokens", elem_id="amount"
    )
    own = gr.Number(
        tokens,
        label="Tokens",
        info=_info("tokens"),
        precision=0,
        elem_id="heal-tokens",
    )
    return {AMOUNT: amount, "tokens": own}


def _more(usual: dict[str, Any]) -> tuple[Boxes, dict[str, gr.HTML]]:
    boxes: Boxes = {}
    notes: dict[str, gr.HTML] = {}
    for heading, names in MORE.items():
        gr.HTML(f"<h3>{heading}</h3>")
        with gr.Row(elem_classes="fine"):
            boxes |= {name: _box(name, usual[name]) for name in names}
        notes[heading] = gr.HTML()
    gr.HTML("<h3>Measured at the end, as the conversion was</h3>")
    boxes["evaluation_text"] = gr.Dropdown(
        evaluation_choices(), value=usual["evaluation_text"], allow_custom_value=True, label="Evaluation text"
    )
    with gr.Row(elem_classes="fine"):
        for name in ("context", "windows"):
            info = Evaluation.model_fields[name].description
            box = f"evaluation_{name}"
            boxes[box] = gr.Number(
                usual[box], label=f"Evaluation {name}", info=info, precision=0, min_width=160
            )
    notes["evaluation"] = gr.HTML(elem_id="wrong-heal-evaluation")
    return boxes, notes


def _box(name: str, value: Any) -> Any:
    """What fits the type of the field."""
    kind = Healing.model_fields[name].annotation
    common: dict[str, Any] = {
        "label": HEALING_TITLES.get(name, name.replace("_", " ").capitalize()),
        "info": _info(name),
        "elem_id": f"heal-{name.replace('_', '-')}",
        "min_width": 160,
    }
    if get_origin(kind) is Literal:
        return gr.Dropdown([*get_args(kind)], value=value, **common)
    if kind is bool:
        return gr.Checkbox(value, **common)
    if kind is str:
        return gr.Textbox(value, max_lines=1, **common)
    return gr.Number(value, precision=0 if kind is int else None, **common)


def _info(name: str) -> str:
    return Healing.model_fields[name].description or ""
