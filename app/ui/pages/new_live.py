# SPDX-License-Identifier: Apache-2.0
"""What answers while the form changes: card, problems beside the boxes, layer bars and pair heatmap."""

from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from app.services.by_slider import slider_ranks
from app.services.estimate import Estimate, estimate
from app.services.profile_jobs import profile_job
from app.services.workbench import Workbench
from app.ui.components.copying import copy_as
from app.ui.components.cost import cost_card
from app.ui.components.layer_bars import shown_layers
from app.ui.components.profile_offer import is_under_way, profile_progress
from app.ui.components.recipe_editor import RecipeEditor
from app.ui.form import Form
from app.ui.pages.new_notes import boxes, folded, notes
from app.ui.pages.new_pairs import NOTHING_SENT, Sent, pair_updates
from app.ui.pages.new_profile import Offer, shown_offer
from app.ui.pages.new_tune import Tuning
from app.ui.tuned import untouched
from core.widths import smallest_rank


@dataclass
class Layout:
    """The components: boxes by field, places for problems by slot, and what opens when one is inside."""

    inputs: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, gr.HTML] = field(default_factory=dict)
    folded: dict[str, gr.Accordion] = field(default_factory=dict)
    tuning: Tuning = field(init=False)
    recipe: RecipeEditor = field(init=False)


@dataclass(frozen=True)
class Live:
    """The components that show an answer."""

    workbench: Workbench
    layout: Layout
    card: gr.HTML
    offer: Offer
    copies: gr.HTML
    convert: gr.Button
    saved: gr.BrowserState
    # what the pair heatmap shows already, see new_pairs
    sent: gr.State

    @property
    def outputs(self) -> list[Any]:
        """Everything `answer` fills, in its order."""
        places = [*self.layout.notes.values(), *self.layout.folded.values()]
        beside = [self.layout.inputs[name] for name in ("rope_dim", "fisher_tokens", "layers", "pairs")]
        card = [self.card, *self.offer.outputs, self.copies, self.convert]
        return [*places, *beside, *card, self.saved, self.sent]

    def answer(
        self, form: Form, origin: str, sent: Sent = NOTHING_SENT, *, is_set: bool = False
    ) -> list[Any]:
        """`is_set`: ranks and pairs of `form` are not what the browser holds, and are written back to it."""
        found = self._estimate(form)
        if _is_of_another_model(form, found):
            form, is_set = form.with_values(**untouched()), True
            found = self._estimate(form)
        layers: dict[str, Any] = {"shown": self._layers(found)}
        pairs, sent = pair_updates(self.workbench, form, found, sent)
        if is_set:
            layers["value"], pairs["value"] = form.values["layers"], form.values["pairs"]
        return [
            *notes(form, found, list(self.layout.notes)),
            *folded(found),
            *boxes(form, found),
            gr.HTML(**layers),
            gr.HTML(**pairs) if pairs else gr.skip(),
            cost_card(found),
            *shown_offer(self.workbench, found),
            copy_as(None if found.problems else found.spec, origin),
            gr.Button(interactive=not found.problems),
            form.values,
            sent,
        ]

    def progress(self, form: Form, origin: str, sent: Sent) -> list[Any]:
        """While the model's profile is being made only its progress; then the numbers it was made for."""
        found = self._estimate(form)
        job = profile_job(self.workbench, found.facts) if found.facts else None
        if job is None or not is_under_way(job):
            return self.answer(form, origin, sent)
        return [profile_progress(job) if one is self.offer.progress else gr.skip() for one in self.outputs]

    def _layers(self, found: Estimate) -> dict[str, Any]:
        least = smallest_rank(found.spec.recipe) if found.spec else 1
        return shown_layers(found.layers, slider_ranks(self.workbench, found), least)

    def _estimate(self, form: Form) -> Estimate:
        return estimate(self.workbench, form.request, form.context, form.batch)


def _is_of_another_model(form: Form, found: Estimate) -> bool:
    """Ranks or pairs were set by hand for a model with another number of layers."""
    facts = found.facts
    if facts is None:
        return False
    return any(one is not None and len(one) != facts.layers for one in (form.layer_ranks, form.rope_pairs))
