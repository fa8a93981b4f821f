# SPDX-License-Identifier: Apache-2.0
"""The boxes everybody sees, and those under Tune; each has a place beside it for what is wrong with it."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from app.ui.form import DEFAULT_BATCH, DEFAULT_CONTEXT, offered_presets
from app.ui.form_base import NOT_MEASURED
from app.ui.format import context as context_text
from app.ui.strings import PRESET_WORDS, ROPE_DIM_WORDS
from core.calibrate.text import NAMED
from core.presets import DEFAULT_PRESET, PRESETS
from core.spec import Calibration, Evaluation
from core.weights.locate import DEMO

_CONTEXTS = tuple(1 << power for power in range(10, 21))

Boxes = dict[str, Any]


def model_choices(models: Sequence[str]) -> list[tuple[str, str]]:
    """What the model box offers: label and value."""
    return [("demo · SmolLM2-135M-Instruct" if model == DEMO else model, model) for model in models]


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


def rope_dim_box(counts: str, **changes: Any) -> gr.Number:
    """`counts` says what the number is of: "per head", "shared"; "none" when there is nothing to choose."""
    label, info = ROPE_DIM_WORDS[counts]
    return gr.Number(label=label, info=info, interactive=counts != "none", **changes)


def fisher_box(is_needed: bool, **changes: Any) -> gr.Number:
    """How much of the calibration goes backwards too."""
    usual = f"empty: {Calibration().fisher_tokens:,}"
    info = usual if is_needed else "none: this recipe takes no gradients"
    return gr.Number(info=info, interactive=is_needed, **changes)


def text_choices() -> list[tuple[str, str]]:
    """What the box of a text offers: label and value."""
    return [(f"{name}: {about}", name) for name, (about, _) in NAMED.items()]


def evaluation_choices() -> list[tuple[str, str]]:
    """The same, and to measure nothing."""
    return [*text_choices(), (f"{NOT_MEASURED}: skip the measurement", NOT_MEASURED)]


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
            info="a named text, or the path of a UTF-8 file",
        )
        boxes["evaluation_text"] = gr.Dropdown(
            evaluation_choices(),
            value=Evaluation().text,
            allow_custom_value=True,
            label="Evaluation text",
            info="what the loss is measured on; best not the calibration's",
        )
    notes["calibration"] = gr.HTML(elem_id="wrong-calibration")
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
