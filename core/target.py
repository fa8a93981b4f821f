# SPDX-License-Identifier: Apache-2.0
"""A target instead of a budget: the smallest cache that a profile predicts to lose no more than that."""

import math
from bisect import bisect_left

from core.errors import PlanError, SpecError
from core.facts import ModelFacts
from core.foresight import foresee, known_curves
from core.profiles import Profile
from core.spec import JobSpec


def keep_for_loss(spec: JobSpec, facts: ModelFacts, profile: Profile | None, most: float) -> float:
    """The smallest `keep` whose predicted KL to the original is at most `most` nats per token.

    Budgets are tried in steps of one number per token and layer, spread over layers as the recipe would most
    likely spread them. Raises SpecError when no profile can say.
    """
    if not most > 0 or not math.isfinite(most):
        raise SpecError(
            f"max_loss must be above 0, got {most:g}",
            hint="0.1 nats per token are about 10 % more perplexity",
            field="max_loss",
        )
    if spec.weights_keep is not None:
        raise SpecError(
            "a loss cannot be aimed at while weights_keep is set: a profile predicts what a smaller cache "
            "loses, not what smaller weights do",
            hint="leave weights_keep empty, or choose keep and see what the job measures",
            field="max_loss",
        )
    if known_curves(spec, facts, profile) is None:
        raise SpecError(
            f"no profile of '{facts.name}' knows what this recipe loses",
            hint=f"make one: mla-workbench profile {facts.name}; it knows the presets quality and fast",
            field="max_loss",
        )

    def loss(numbers: int) -> float:
        try:
            found = foresee(at_keep(spec, numbers / facts.kv_numbers_per_layer), facts, profile)
        except PlanError:
            return math.inf
        return found.prediction.loss if found.prediction else math.inf

    budgets = range(1, facts.kv_numbers_per_layer + 1)
    # falling but for the steps of rotary dims: where the search lands, the next budgets up are good, too
    index = bisect_left(budgets, -most, key=lambda numbers: -loss(numbers))
    numbers = budgets[min(index, len(budgets) - 1)]
    return numbers / facts.kv_numbers_per_layer


def at_keep(spec: JobSpec, keep: float) -> JobSpec:
    """`spec` with a budget in place of the widths it names."""
    return spec.model_copy(update={"keep": keep, "rope_dim": None, "kv_rank": None, "layer_ranks": None})
