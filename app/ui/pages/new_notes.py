# SPDX-License-Identifier: Apache-2.0
"""What stands beside the boxes of the form: problems where they belong, and what is good to know."""

from html import escape
from typing import Any

import gradio as gr

from app.services.estimate import Estimate
from app.ui.components import fields
from app.ui.components.chips import term
from app.ui.components.facts import facts_line
from app.ui.components.messages import problem
from app.ui.form import RECIPE, Form
from app.ui.strings import BUDGET_OVERRIDDEN, NOTHING_TO_SELECT, RANKS_HELD, RECIPE_TITLES, SPREAD
from core.facts import Problem
from core.presets import PRESETS

WEIGHTS_NOTE = (
    f'<p class="caption">Of the {term("linear layers", "weights_keep")} of all decoder layers, keys and '
    f"values among them; each that shrinks becomes two factors with a {term('junction', 'junction')}.</p>"
)
# slots of the boxes under Tune
_TUNED = {"layer_ranks", "rope_pairs", "rope_dim", "kv_rank", "calibration", "tokens"}


def slot_of(name: str) -> str:
    """Beside which box a problem with the field `name` of a JobSpec is said."""
    first, _, rest = name.partition(".")
    if first == "recipe":
        return rest if rest in RECIPE else "preset"
    if first in ("keep", "weights_keep", "rope_dim", "kv_rank", "preset", "layer_ranks", "rope_pairs"):
        return first
    if first == "calibration" and rest.endswith("tokens"):
        return "tokens"
    return "calibration" if first in ("calibration", "evaluation") else "model"


def notes(form: Form, answer: Estimate, slots: list[str]) -> list[str]:
    """What stands beside every box: its problem, else what is good to know."""
    wrong: dict[str, Problem] = {}
    for one in answer.problems:
        wrong.setdefault(slot_of(one.field), one)
    words = {"facts": facts_line(answer.facts), "preset": _preset_note(form)}
    if not form.has_rope_dim:
        words["rope_select"] = f'<p class="caption">{NOTHING_TO_SELECT}</p>'
    if form.locked:
        words["keep"] = f'<p class="caption">{RANKS_HELD.format(len(form.locked))}</p>'
    if answer.allocation in SPREAD:
        words["layer_ranks"] = f'<p class="caption">{SPREAD[answer.allocation]}</p>'
    if form.is_budget_overridden:
        words["keep"] = f'<p class="caption">{BUDGET_OVERRIDDEN}</p>'
    if form.has_weights:
        words["weights_keep"] = WEIGHTS_NOTE
    return [problem(wrong[slot]) if slot in wrong else words.get(slot, "") for slot in slots]


def _preset_note(form: Form) -> str:
    preset = PRESETS.get(str(form.values["preset"]))
    if preset is None:
        return ""
    changed = ", ".join(RECIPE_TITLES.get(name, name) for name in form.changed)
    own = f" <b>Changed: {escape(changed)}.</b>" if changed else ""
    return f'<p class="caption">{escape(preset.paper)}.{own}</p>'


def folded(answer: Estimate) -> list[Any]:
    """A problem is never hidden: what holds it opens, and stays as it is when there is none."""
    wrong = {slot_of(one.field) for one in answer.problems}
    tune, stages = wrong & _TUNED, wrong & set(RECIPE)
    return [gr.Accordion(open=True) if inside else gr.skip() for inside in (tune, stages)]


def boxes(form: Form, answer: Estimate) -> list[Any]:
    """Boxes whose meaning depends on the recipe."""
    counts = "per head" if form.values["rope_mix"] == "none" else "shared"
    # what an earlier layout was given would be refused by one that has no rotary dims
    rope_dim = fields.rope_dim_box(counts) if form.has_rope_dim else fields.rope_dim_box("none", value=None)
    return [rope_dim, fields.fisher_box(answer.spec is None or answer.spec.needs_fisher)]
