# SPDX-License-Identifier: Apache-2.0
"""The boxes everybody sees, and those under Tune; each has a place beside it for what is wrong with it."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from app.services.model_sources import FoundModel
from app.services.uploads import UploadedText
from app.ui.form import DEFAULT_BATCH, DEFAULT_CONTEXT, offered_presets
from app.ui.form_base import NOT_MEASURED, WEIGHTS_LEAST, WEIGHTS_STEP, weights_shown
from app.ui.format import context as context_text
from app.ui.format import integer, size
from app.ui.strings import PRESET_WORDS, ROPE_DIM_WORDS, UPLOAD_HINT, WEIGHTS_INFO, WHERE_WORDS
from core.calibrate.text import NAMED
from core.presets import DEFAULT_PRESET, PRESETS
from core.spec import Calibration, Evaluation
from core.weights.locate import DEMO

_CONTEXTS = tuple(1 << power for power in range(10, 21))

Boxes = dict[str, Any]

# no fields of the form, but they stand among its boxes
UPLOAD_TEXT, UPLOAD_NOTE, MODEL_NOTE = "upload_text", "upload_note", "model_note"


def model_choices(models: Sequence[str], found: Sequence[FoundModel] = ()) -> list[tuple[str, str]]:
    """What the model box offers, label and value: what was used lately, then what there is to find."""
    usual = [("demo · SmolLM2-135M-Instruct" if model == DEMO else model, model) for model in models]
    return [*usual, *((_found_label(one), one.model) for one in found if one.model not in models)]


def _found_label(one: FoundModel) -> str:
    if one.where == "hub" and one.downloads is not None:
        return f"{one.model} · Hub, {integer(one.downloads)} downloads a month"
    return f"{one.model} · {WHERE_WORDS[one.where]}"


def model_box() -> gr.Dropdown:
    """The demo, what was used lately, or anything typed."""
    return gr.Dropdown(
        model_choices([DEMO]),
        value=DEMO,
        allow_custom_value=True,
        label="Model",
        show_label=False,
        info="a local folder, a Hub id, or the demo",
        elem_id="model",
    )


def preset_box() -> gr.Radio:
    """What one wants first, the published methods under it; the first line of a label is its title."""
    return gr.Radio(
        [("\n".join(_preset_words(name)), name) for name in offered_presets()],
        value=DEFAULT_PRESET,
        show_label=False,
        container=False,
        elem_id="preset",
    )


def _preset_words(name: str) -> tuple[str, str]:
    return PRESET_WORDS.get(name, (PRESETS[name].title, PRESETS[name].promise))


def keep_slider() -> gr.Slider:
    """The one number most people touch."""
    return gr.Slider(
        3,
        100,
        value=PRESETS[DEFAULT_PRESET].keep * 100,
        step=0.25,
        label="Keep, % of the KV cache",
        info="less is smaller and loses more; 100 keeps the model exact",
        elem_id="keep",
        buttons=[],
    )


def weights_boxes() -> Boxes:
    """The other budget: of the weights, not of the cache. The slider is shown once it is asked for."""
    weights_keep = PRESETS[DEFAULT_PRESET].weights_keep
    shown = weights_shown(weights_keep)
    return {
        "has_weights": gr.Checkbox(
            shown["has_weights"],
            label="Shrink the weights, too",
            info=WEIGHTS_INFO,
            elem_id="has-weights",
        ),
        "weights_keep": gr.Slider(
            WEIGHTS_LEAST,
            100,
            value=shown["weights_keep"],
            step=WEIGHTS_STEP,
            label="Weights of the linear layers that stay, %",
            info="less is smaller and loses more; 100 cuts nothing of them",
            elem_id="weights-keep",
            buttons=[],
        ),
    }


def rope_dim_box(counts: str, **changes: Any) -> gr.Number:
    """`counts` says what the number is of: "per head", "shared"; "none" when there is nothing to choose."""
    label, info = ROPE_DIM_WORDS[counts]
    return gr.Number(label=label, info=info, interactive=counts != "none", **changes)


def fisher_box(is_needed: bool, **changes: Any) -> gr.Number:
    """How much of the calibration goes backwards too."""
    usual = f"empty: {Calibration().fisher_tokens:,}"
    info = usual if is_needed else "none: this recipe takes no gradients"
    return gr.Number(info=info, interactive=is_needed, **changes)


def text_choices(uploaded: Sequence[UploadedText] = ()) -> list[tuple[str, str]]:
    """What the box of a text offers: label and value."""
    named = [(f"{name}: {about}", name) for name, (about, _) in NAMED.items()]
    return [*((upload_label(one), one.value) for one in uploaded), *named]


def evaluation_choices(uploaded: Sequence[UploadedText] = ()) -> list[tuple[str, str]]:
    """The same, and to measure nothing."""
    return [*text_choices(uploaded), (f"{NOT_MEASURED}: skip the measurement", NOT_MEASURED)]


def upload_label(text: UploadedText) -> str:
    """An upload in a list: its name, its tokens where they are known, its size."""
    about = "" if text.tokens_are != "estimated" else "about "
    tokens = "" if text.tokens is None else f"{about}{integer(text.tokens)} tokens, "
    return f"{text.name}: uploaded, {tokens}{size(text.bytes)}"


def tune_boxes() -> tuple[Boxes, dict[str, gr.HTML]]:
    """Widths, the shape the card is shown for, and the calibration text."""
    boxes: Boxes = {}
    with gr.Row():
        boxes["rope_dim"] = rope_dim_box("none", value=None, elem_id="rope-dim")
        boxes["kv_rank"] = gr.Number(
            None, label="Latent per KV head", info="numbers; empty: from the slider", elem_id="kv-rank"
        )
    notes = {"rope_dim": gr.HTML(elem_id="wrong-rope-dim"), "kv_rank": gr.HTML(elem_id="wrong-kv-rank")}
    with gr.Row():
        boxes["calibration_text"] = gr.Dropdown(
            text_choices(),
            value="wikipedia",
            allow_custom_value=True,
            label="Calibration text",
            info="a named text, or the path of a UTF-8 file; for a model that sees, of a .jsonl of images",
        )
        boxes["evaluation_text"] = gr.Dropdown(
            evaluation_choices(),
            value=Evaluation().text,
            allow_custom_value=True,
            label="Evaluation text",
            info="what the loss is measured on",
        )
    notes["calibration"] = gr.HTML(elem_id="wrong-calibration")
    with gr.Row(elem_classes="upload-bar"):
        boxes[UPLOAD_TEXT] = gr.UploadButton("Upload a text", size="sm", elem_id="upload-text")
        boxes[UPLOAD_NOTE] = gr.HTML(UPLOAD_HINT, elem_id="upload-note")
    with gr.Row():
        boxes["calibration_tokens"] = gr.Number(
            None,
            label="Calibration tokens",
            info=f"empty: {Calibration().tokens:,}",
            precision=0,
            elem_id="calibration-tokens",
        )
        boxes["fisher_tokens"] = fisher_box(
            True, value=None, label="of them with gradients", precision=0, elem_id="fisher-tokens"
        )
    notes["tokens"] = gr.HTML(elem_id="wrong-tokens")
    with gr.Row():
        boxes["context"] = gr.Dropdown(
            [(context_text(tokens), tokens) for tokens in _CONTEXTS],
            value=DEFAULT_CONTEXT,
            label="Context length",
            info="for the card, changes nothing in the model",
        )
        boxes["batch"] = gr.Number(
            DEFAULT_BATCH, label="Batch", info="sequences at the same time", precision=0
        )
    return boxes, notes
