# SPDX-License-Identifier: Apache-2.0
"""The boxes of the form."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from app.ui.form import DEFAULT_BATCH, DEFAULT_CONTEXT, DEFAULT_PRESET
from app.ui.format import context as context_text
from app.ui.strings import STAGE_TITLES
from core.calibrate.text import NAMED
from core.presets import PRESETS
from core.spec import Calibration, Recipe
from core.stages import STAGES
from core.weights.locate import DEMO

_CONTEXTS = tuple(1 << power for power in range(10, 21))


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


def preset_box() -> gr.Dropdown:
    """The published methods."""
    return gr.Dropdown(
        [(preset.title, name) for name, preset in PRESETS.items()],
        value=DEFAULT_PRESET,
        label="Preset",
        info=PRESETS[DEFAULT_PRESET].paper,
        elem_id="preset",
    )


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


def tune_boxes() -> dict[str, Any]:
    """Widths, the shape the card is shown for, and the calibration text."""
    with gr.Row():
        rope_dim = gr.Number(None, label="Rope dims per head", info="even; empty: from the slider")
        kv_rank = gr.Number(None, label="Latent per KV head", info="numbers; empty: from the slider")
    with gr.Row():
        context = gr.Dropdown(
            [(context_text(tokens), tokens) for tokens in _CONTEXTS],
            value=DEFAULT_CONTEXT,
            label="Context length",
            info="for the card, changes nothing in the model",
        )
        batch = gr.Number(DEFAULT_BATCH, label="Batch", info="sequences at the same time", precision=0)
    with gr.Row():
        text = gr.Dropdown(
            [(f"{name}: {about}", name) for name, (about, _) in NAMED.items()],
            value="wikipedia",
            allow_custom_value=True,
            label="Calibration text",
            info="a named text, or the path of a UTF-8 file",
        )
        tokens = gr.Number(
            None, label="Calibration tokens", info=f"empty: {Calibration().tokens:,}", precision=0
        )
    return {
        "rope_dim": rope_dim,
        "kv_rank": kv_rank,
        "context": context,
        "batch": batch,
        "calibration_text": text,
        "calibration_tokens": tokens,
    }


def stage_boxes() -> dict[str, Any]:
    """Every stage: what runs today can be chosen, what is planned is named."""
    boxes: dict[str, Any] = {}
    usual = Recipe()
    for name, stage in STAGES.items():
        coming = f" Coming: {', '.join(stage.planned)}." if stage.planned else ""
        boxes[name] = gr.Dropdown(
            [(f"{choice}: {about}", choice) for choice, about in stage.ready.items()],
            value=getattr(usual, name),
            label=STAGE_TITLES[name],
            info=f"{stage.question}{coming}",
        )
        if name == "rope_select":
            boxes["rope_select_start"] = gr.Number(
                0, label="First pair", info="start offset, for uniform only", precision=0
            )
    return boxes
