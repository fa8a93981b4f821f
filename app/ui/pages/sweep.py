# SPDX-License-Identifier: Apache-2.0
"""Sweep: several budgets and presets of one model in one form; with ?id= the sweep as it goes."""

from typing import Any

import gradio as gr

from app.services import models, sweeps
from app.services.sweeps import SweepRequest
from app.services.workbench import Workbench
from app.ui.components import fields
from app.ui.components.messages import failure
from app.ui.components.shell import top_bar
from app.ui.components.sweeps import preview_table
from app.ui.events import GO_TO, LATEST, QUIET
from app.ui.form import offered_presets
from app.ui.pages import sweep_live
from app.ui.strings import preset_title
from core.errors import SpecError, WorkbenchError
from core.presets import DEFAULT_PRESET
from core.spec import Calibration, Evaluation

_BUDGETS = "12.5, 25, 31.25, 50"
# the id of a sweep, else the model another page has sent along
_READ_ADDRESS = (
    "() => { const said = new URLSearchParams(window.location.search);"
    " return [said.get('id') || '', said.get('model') || ''] }"
)


def build(workbench: Workbench, page: gr.Blocks) -> None:
    """Lay out the page and attach its handlers."""
    top_bar(workbench, page, "/jobs")
    sweep_id, said_model = gr.Textbox(visible="hidden"), gr.Textbox(visible="hidden")
    address = gr.Textbox(visible="hidden")
    with gr.Column(visible=False) as asking:
        gr.HTML("<h1>New sweep</h1>")
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320, elem_classes="sheet"):
                entered = _form()
            with gr.Column(scale=7, min_width=320, elem_classes="stick"):
                with gr.Column(elem_classes="sheet"):
                    gr.HTML("<h2>What it would do</h2>")
                    grid = gr.HTML(elem_id="grid")
                start = gr.Button("Start the sweep", variant="primary", elem_id="start-sweep")
                refused = gr.HTML()
    with gr.Column(visible=False) as watching:
        watched = sweep_live.build()

    def on_change(*values: Any) -> list[Any]:
        try:
            found = sweeps.preview(workbench, read_form(*values))
        except WorkbenchError as error:
            return [failure(error), gr.Button(interactive=False)]
        can_start = not any(row.problem for row in found.rows)
        return [preview_table(found), gr.Button(interactive=can_start)]

    def on_start(*values: Any) -> tuple[str, str]:
        try:
            sweep = sweeps.submit_sweep(workbench, read_form(*values))
        except WorkbenchError as error:
            return "", failure(error)
        return f"/sweep?id={sweep.id}", ""

    def on_open(wanted: str, model: str) -> list[Any]:
        choices = fields.model_choices(models.recent_models(workbench))
        box = gr.Dropdown(choices=choices, value=model or "demo")
        return [wanted, box, gr.Column(visible=not wanted), gr.Column(visible=bool(wanted))]

    opened = page.load(
        on_open, [sweep_id, said_model], [sweep_id, entered[0], asking, watching], js=_READ_ADDRESS, **QUIET
    )
    opened.then(on_change, entered, [grid, start], **QUIET)
    sweep_live.attach(workbench, opened, sweep_id, watched)
    gr.on([one.input for one in entered], on_change, entered, [grid, start], **LATEST)
    start.click(on_start, entered, [address, refused], **QUIET)
    address.change(None, address, None, js=GO_TO)


def read_form(
    model: str,
    presets: list[str],
    budgets: str,
    text: str,
    tokens: float | None,
    context: float | None,
    fisher_tokens: float | None,
    windows: float | None,
) -> SweepRequest:
    """The request; raises SpecError for a budget that is no number. A box that is empty says nothing."""
    counts = {"tokens": tokens, "context": context, "fisher_tokens": fisher_tokens}
    said: dict[str, Any] = {"text": str(text or "").strip() or Calibration().text}
    said |= {name: count for name, count in counts.items() if count is not None}
    measured = {} if windows is None else {"windows": windows}
    request = {"model": str(model or "").strip(), "presets": presets, "keeps": read_budgets(budgets)}
    return sweeps.parse_request(request | {"calibration": said, "evaluation": measured})


def read_budgets(text: str) -> list[float]:
    """ "12.5, 25 %; 50" -> [0.125, 0.25, 0.5]; raises SpecError naming what is no budget."""
    words = str(text or "").replace("%", " ").replace(",", " ").replace(";", " ").split()
    found = []
    for word in words:
        try:
            found.append(float(word) / 100)
        except ValueError as error:
            raise SpecError(
                f"'{word}' is not a budget", hint=f"percentages, such as {_BUDGETS}", field="keeps"
            ) from error
    return found


def _form() -> list[Any]:
    """The boxes in the order of `read_form`."""
    gr.HTML("<h2>Model</h2>")
    model = fields.model_box()
    presets = gr.CheckboxGroup(
        [(preset_title(name), name) for name in offered_presets()],
        value=[DEFAULT_PRESET, "fast"],
        label="Recipes",
        elem_id="sweep-presets",
    )
    budgets = gr.Textbox(
        _BUDGETS, label="Budgets", info="how many % of the KV cache stay; each recipe runs at each of them"
    )
    text = gr.Dropdown(
        fields.text_choices(),
        value=Calibration().text,
        allow_custom_value=True,
        label="Calibration text",
        info="read once, for all jobs",
    )
    tokens = gr.Number(Calibration().tokens, label="Calibration tokens", precision=0)
    return [model, presets, budgets, text, tokens, *_counts()]


def _counts() -> list[gr.Number]:
    """How the texts are read, for those who know how long they want to wait."""
    usual, measured = Calibration(), Evaluation()
    with gr.Accordion("How much is read", open=False):
        with gr.Row():
            context = gr.Number(usual.context, label="Tokens per window", precision=0)
            fisher = gr.Number(usual.fisher_tokens, label="Tokens with gradients", precision=0)
        windows = gr.Number(
            measured.windows,
            label="Evaluation windows",
            info=f"of {measured.context} tokens each, from articles that calibration does not see",
            precision=0,
        )
    return [context, fisher, windows]
