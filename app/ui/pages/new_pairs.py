# SPDX-License-Identifier: Apache-2.0
"""What the pair heatmap is sent of an answer: its colours only when they change, they are many."""

import json
from typing import Any

from app.services.estimate import Estimate
from app.services.tuning import PairView, pair_scores
from app.services.workbench import Workbench
from app.ui.components.pair_map import shown_kept, shown_map
from app.ui.form import Form
from app.ui.strings import PAIRS_UNKNOWN
from core.errors import WorkbenchError

# what the browser has already: a name for the colours, and the outlined pairs
Sent = tuple[str, str]
NOTHING_SENT: Sent = ("", "")


def pair_updates(
    workbench: Workbench, form: Form, found: Estimate, sent: Sent
) -> tuple[dict[str, Any], Sent]:
    """(properties that changed, what is sent by now)."""
    view = _view(workbench, form, found)
    has_pairs = found.facts is None or found.facts.rotary_dim > 0
    key = _key(found, view) if has_pairs else "no pairs"
    kept = shown_kept(view)
    now = (key, json.dumps(kept["kept"]))
    # a fold that opens has forgotten the words for it, too
    changes: dict[str, Any] = {"unknown": PAIRS_UNKNOWN} if sent == NOTHING_SENT else {}
    if now[0] != sent[0]:
        changes["map"] = shown_map(view, key, has_pairs)
    if now[1] != sent[1]:
        changes["solved"] = kept
    return changes, now


def _view(workbench: Workbench, form: Form, found: Estimate) -> PairView | None:
    spec, facts = found.spec, found.facts
    if spec is None or facts is None or facts.problems:
        return None
    try:
        return pair_scores(workbench, spec.model, spec.preset or "", form.request)
    except WorkbenchError:
        # the answer says already what is wrong
        return None


def _key(found: Estimate, view: PairView | None) -> str:
    """Changes with the model, its profile, and whatever of the recipe the scores depend on."""
    if view is None or found.facts is None:
        return "nothing"
    return f"{found.facts.folder} {view.meaning} {hash(view.scores)}"
