# SPDX-License-Identifier: Apache-2.0
"""What the controls of the tuning view do to the form: reach a target, spread ranks anew, let go of both."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from app.services.by_slider import follow_slider, slider_ranks
from app.services.estimate import estimate
from app.services.tuning import LossTarget, keep_for, redistribute
from app.services.workbench import Workbench
from app.ui.components.messages import failure
from app.ui.components.targets import TargetRow, read_target
from app.ui.events import LATEST, QUIET
from app.ui.form import FIELDS, Form
from app.ui.origin import origin_of
from app.ui.pages.new_live import Live
from app.ui.pages.new_tune import Tuning
from app.ui.tuned import by_rule, by_slider, of_ranks
from core.errors import SpecError, WorkbenchError

# (the form, what else was entered) -> the form as it is to be
Step = Callable[[Form, Sequence[Any]], Form]


def attach(live: Live, tuning: Tuning, entered: list[Any]) -> None:
    """Every control answers in one round: the form as it is now, and the card of it."""
    workbench, keep = live.workbench, live.layout.inputs["keep"]

    def on(trigger: Any, step: Step, note: gr.HTML, boxes: Sequence[Any] = (), **how: Any) -> None:
        def handle(request: gr.Request, *values: Any) -> list[Any]:
            count = len(boxes)
            form, sent = Form.of(values[count : count + len(FIELDS)]), values[-1]
            try:
                form = step(form, values[:count])
            except WorkbenchError as error:
                return [*([gr.skip()] * (1 + len(live.outputs))), failure(error)]
            position = form.values["keep"] if boxes else gr.skip()
            return [position, *live.answer(form, origin_of(request), sent, is_set=True), ""]

        trigger(handle, [*boxes, *entered, live.sent], [keep, *live.outputs, note], **(how or QUIET))

    on(keep.input, lambda form, _: followed(workbench, form), tuning.refused, **LATEST)
    on(tuning.spread.click, lambda form, _: respread(workbench, form), tuning.refused)
    on(tuning.by_slider.click, lambda form, _: form.with_values(layers=by_slider()), tuning.refused)
    on(tuning.by_rule.click, lambda form, _: form.with_values(pairs=by_rule()), tuning.refused)
    for row in tuning.targets:
        for trigger in (row.button.click, *(box.submit for box in row.boxes)):
            on(trigger, _reach(workbench, row, keep.minimum), row.note, row.boxes)


def _reach(workbench: Workbench, row: TargetRow, least: float) -> Step:
    def step(form: Form, boxes: Sequence[Any]) -> Form:
        target = read_target(row.name, boxes)
        free = form.with_values(layers=by_slider(), kv_rank=None, rope_dim=None)
        # up, to four digits of a percent: fewer than one number of a layer's cache
        percent = math.ceil(keep_for(workbench, free.request, target) * 1e6 - 1e-3) / 1e4
        if percent < least and not isinstance(target, LossTarget):
            raise SpecError(
                f"that is {percent:.2g} % of the cache",
                hint=f"ask for more: {least} % is the least",
                field="keep",
            )
        return followed(workbench, form.with_values(keep=max(least, percent)))

    return step


def respread(workbench: Workbench, form: Form) -> Form:
    """Locked layers keep their rank, the rest is spread anew within the slider's budget."""
    ranks = redistribute(workbench, form.with_values(layers=by_slider()).request, form.locked)
    return form.with_values(layers=of_ranks(ranks, form.locked))


def followed(workbench: Workbench, form: Form) -> Form:
    """After a move of the slider: locked layers stay, everything else is as the slider has it."""
    free = form.with_values(layers=by_slider())
    if not form.locked:
        return free
    found = estimate(workbench, free.request, form.context, form.batch)
    ranks = follow_slider(workbench, free.request, form.locked, slider_ranks(workbench, found))
    return form.with_values(layers=of_ranks(ranks, form.locked)) if ranks else form
