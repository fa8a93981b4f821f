# SPDX-License-Identifier: Apache-2.0
"""What a profile predicts at each size of the cache: the line beside the points that were measured."""

import math
from collections.abc import Sequence

from pydantic import Field

from app.services.estimate import estimate
from app.services.figure_table import FigureTable
from app.services.workbench import Workbench
from core.spec import Frozen

STEPS = 24
_LEAST, _MOST = 0.08, 1.0


class FrontierStep(Frozen):
    """One budget. Ratios follow from the predicted KL as exp(KL), which is what text loses on average."""

    keep: float
    bytes_per_token: float
    low: float = Field(description="perplexity ratio at the lower end of the prediction")
    ratio: float
    high: float


def frontier(workbench: Workbench, model: str, preset: str) -> list[FrontierStep]:
    """Ascending budgets; empty without a profile that knows the preset."""
    steps = []
    for index in range(STEPS):
        # closer where the loss is steep
        keep = _LEAST + (_MOST - _LEAST) * (index / (STEPS - 1)) ** 1.6
        answer = estimate(workbench, {"model": model, "preset": preset, "keep": keep}, 1, 1)
        if answer.prediction is None or answer.problems:
            continue
        found = answer.prediction
        steps.append(
            FrontierStep(
                keep=keep,
                bytes_per_token=answer.cache_bytes_after,
                low=math.exp(found.low),
                ratio=math.exp(found.loss),
                high=math.exp(found.high),
            )
        )
    return steps


def frontier_table(steps: Sequence[FrontierStep]) -> FigureTable:
    """One row per budget."""
    columns = tuple(FrontierStep.model_fields)
    rows = tuple(tuple(getattr(step, column) for column in columns) for step in steps)
    return FigureTable(name="frontier", columns=columns, rows=rows)
