# SPDX-License-Identifier: Apache-2.0
"""Ranks that follow the slider: what it gives every layer, and what it leaves beside those held by hand."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.services.estimate import Estimate
from app.services.tuning import redistribute
from app.services.workbench import Workbench
from core.errors import WorkbenchError
from core.foresight import foresee


def slider_ranks(workbench: Workbench, found: Estimate) -> tuple[int, ...]:
    """What the layers of an answer would get if no rank were set by hand; nothing while it has no plan."""
    spec, facts = found.spec, found.facts
    if spec is None or facts is None or not found.layers:
        return ()
    if spec.layer_ranks is None:
        return tuple(layer.rank for layer in found.layers)
    profile = workbench.profiles.newest(workbench.settings.home, facts.name)
    by_budget = spec.model_copy(update={"layer_ranks": None})
    try:
        return tuple(one.rank for one in foresee(by_budget, facts, profile).widths)
    except WorkbenchError:
        # the slider alone leaves no room for a latent; ranks by hand do
        return spec.layer_ranks


def follow_slider(
    workbench: Workbench, data: Mapping[str, Any], locked: Mapping[int, int], solved: Sequence[int]
) -> tuple[int, ...]:
    """Locked layers as they are, the rest by the budget of `data`; `solved` is the slider's without locks.

    Without a profile that knows the recipe nobody can say which layer pays for the locked ones: then none.
    """
    try:
        return redistribute(workbench, data, locked)
    except WorkbenchError:
        return tuple(locked.get(layer, rank) for layer, rank in enumerate(solved))
