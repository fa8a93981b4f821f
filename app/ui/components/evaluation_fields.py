# SPDX-License-Identifier: Apache-2.0
"""The boxes of the form of an evaluation: models, texts, retrieval, and lm-eval where it is installed."""

from collections.abc import Sequence
from typing import Any, get_args

import gradio as gr

from app.services.evaluations import has_harness
from app.services.uploads import UploadedText
from app.ui.components.fields import UPLOAD_NOTE, UPLOAD_TEXT, Boxes, text_choices
from app.ui.evaluation_form import AMOUNTS, USUAL, initial
from app.ui.strings import MEASUREMENT_TITLES, NO_HARNESS, RETRIEVAL_WORDS, UPLOAD_HINT
from core.further.spec import MOST, RetrievalTask

# no field: the choice that fills the boxes
AMOUNT = "amount"


def evaluation_boxes() -> tuple[Boxes, dict[str, gr.HTML], gr.Accordion]:
    """Boxes by field, places for what is wrong by slot, and the fold around the finer ones."""
    usual = initial()
    boxes: Boxes = {
        AMOUNT: gr.Radio(
            amount_choices(),
            value=USUAL,
            show_label=False,
            container=False,
            label="What is measured",
            elem_id="amount",
        )
    }
    boxes["conversions"] = gr.Dropdown(
        [],
        value=[],
        multiselect=True,
        max_choices=MOST,
        label="Models",
        info="beside the original; all read the same windows and answer the same questions",
        elem_id="evaluate-models",
    )
    notes = {"models": gr.HTML(elem_id="wrong-evaluate-models")}
    _texts(usual, boxes, notes)
    with gr.Accordion("Retrieval from long texts", open=True, elem_id="retrieval-fold"):
        _retrieval(usual, boxes, notes)
    with gr.Accordion("More", open=False, elem_id="evaluate-more") as more:
        _more(usual, boxes, notes)
    notes["whole"] = gr.HTML(elem_id="wrong-evaluate")
    return boxes, notes, more


def measured_texts(uploaded: Sequence[UploadedText] = ()) -> list[tuple[str, str]]:
    """Label and value; a short label, since several stand in one box."""
    return [(label.partition(":")[0], value) for label, value in text_choices(uploaded)]


def amount_choices(times: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Label and value; `times` says how long each takes here; the first line of a label is its title."""
    about = times or ("",) * len(AMOUNTS)
    lines = [(words, time) for (words, _), time in zip(AMOUNTS.values(), about, strict=True)]
    return [("\n".join(filter(None, one)), name) for name, one in zip(AMOUNTS, lines, strict=True)]


def _texts(usual: dict[str, Any], boxes: Boxes, notes: dict[str, gr.HTML]) -> None:
    boxes["texts"] = gr.Dropdown(
        measured_texts(),
        value=usual["texts"],
        multiselect=True,
        allow_custom_value=True,
        label="Texts",
        info="named or uploaded ones, or paths of UTF-8 files; best none that was calibrated on",
        elem_id="evaluate-texts",
    )
    with gr.Row(elem_classes="upload-bar"):
        boxes[UPLOAD_TEXT] = gr.UploadButton("Upload a text", size="sm", elem_id="upload-text")
        boxes[UPLOAD_NOTE] = gr.HTML(UPLOAD_HINT, elem_id="upload-note")
    with gr.Row(elem_classes="fine"):
        boxes["contexts"] = _text_box("contexts", usual, "one or several: 512, 2048")
        boxes["windows"] = _number_box("windows", usual, "of each text and length; more: narrower")
    notes["texts"] = gr.HTML(elem_id="wrong-evaluate-texts")


def _retrieval(usual: dict[str, Any], boxes: Boxes, notes: dict[str, gr.HTML]) -> None:
    boxes["retrieval"] = gr.CheckboxGroup(
        [(RETRIEVAL_WORDS[one], one) for one in get_args(RetrievalTask)],
        value=usual["retrieval"],
        label="Tasks, after RULER",
        info="tick none to leave retrieval out",
        elem_id="evaluate-retrieval",
    )
    with gr.Row(elem_classes="fine"):
        boxes["retrieval_contexts"] = _text_box("retrieval_contexts", usual, "one or several: 1024, 4096")
        boxes["samples"] = _number_box("samples", usual, "of each task and length")
    notes["retrieval"] = gr.HTML(elem_id="wrong-evaluate-retrieval")


def _more(usual: dict[str, Any], boxes: Boxes, notes: dict[str, gr.HTML]) -> None:
    with gr.Row(elem_classes="fine"):
        boxes["essay"] = gr.Dropdown(
            measured_texts(),
            value=usual["essay"],
            allow_custom_value=True,
            label="Text around the needles",
            elem_id="evaluate-essay",
            min_width=160,
        )
        boxes["seed"] = _number_box("seed", usual, "draws the questions")
    gr.HTML("<h3>lm-eval</h3>")
    is_there = has_harness()
    if not is_there:
        gr.HTML(f'<p class="caption">{NO_HARNESS}</p>', elem_id="no-harness")
    with gr.Row(elem_classes="fine", visible=is_there):
        boxes["harness"] = _text_box(
            "harness", usual, "names, separated by commas; sets: commonsense and longbench"
        )
        boxes["harness_limit"] = _number_box("harness_limit", usual, "of each task; empty asks all")
        boxes["harness_folder"] = _text_box(
            "harness_folder", usual, "a folder of task files with local data; empty: from the Hub"
        )
    notes["harness"] = gr.HTML(elem_id="wrong-evaluate-harness")


def _text_box(name: str, usual: dict[str, Any], info: str) -> gr.Textbox:
    return gr.Textbox(usual[name], **_common(name, info))


def _number_box(name: str, usual: dict[str, Any], info: str) -> gr.Number:
    return gr.Number(usual[name], precision=0, **_common(name, info))


def _common(name: str, info: str) -> dict[str, Any]:
    return {
        "label": MEASUREMENT_TITLES[name],
        "info": info,
        "elem_id": f"evaluate-{name.replace('_', '-')}",
        "min_width": 160,
    }
