# SPDX-License-Identifier: Apache-2.0
"""What answers while the form changes: card, problems beside the boxes, layer bars and pair heatmap."""

from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from app.services.estimate import Estimate, estimate
from app.services.workbench import Workbench
from app.ui.components.copying import copy_as
from app.ui.components.cost import cost_card
from app.ui.components.layer_bars import shown_layers
from app.ui.form import Form
from app.ui.pages.new_notes import boxes, folded, notes
from app.ui.tuned import untouched


@dataclass
class Layout:
    """The components: boxes by field, places for problems by slot, and what opens when one is inside."""

    inputs: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, gr.HTML] = field(default_factory=dict)
    folded: dict[str, gr.Accordion] = field(default_factory=dict)


@dataclass(frozen=True)
class Live:
    """The components that show an answer."""

    workbench: Workbench
    layout: Layout
    card: gr.HTML
    copies: gr.HTML
    convert: gr.Button
    saved: gr.BrowserState

    @property
    def outputs(self) -> list[Any]:
        """Everything `answer` fills, in its order."""
        places = [*self.layout.notes.values(), *self.layout.folded.values()]
        beside = [self.layout.inputs[name] for name in ("rope_dim", "fisher_tokens", "layers", "pairs")]
        return [*places, *beside, self.card, self.copies, self.convert, self.saved]

    def answer(self, form: Form, origin: str, *, is_set: bool = False) -> list[Any]:
        """`is_set`: ranks and pairs of `form` are not what the browser holds, and are written back to it."""
        found = self._estimate(form)
        if _is_of_another_model(form, found):
            form, is_set = form.with_values(**untouched()), True
            found = self._estimate(form)
        written = [{"value": form.values[name]} if is_set else {} for name in ("layers", "pairs")]
        return [
            *notes(form, found, list(self.layout.notes)),
            *folded(found),
            *boxes(form, found),
            gr.HTML(shown=shown_layers(found), **written[0]),
            gr.HTML(**written[1]) if written[1] else gr.skip(),
            cost_card(found),
            copy_as(None if found.problems else found.spec, origin),
            gr.Button(interactive=not found.problems),
            form.values,
        ]

    def _estimate(self, form: Form) -> Estimate:
        return estimate(self.workbench, form.request, form.context, form.batch)


def _is_of_another_model(form: Form, found: Estimate) -> bool:
    """Ranks or pairs were set by hand for a model with another number of layers."""
    facts = found.facts
    if facts is None:
        return False
    return any(one is not None and len(one) != facts.layers for one in (form.layer_ranks, form.rope_pairs))
