# SPDX-License-Identifier: Apache-2.0
"""The curve of a healing as it is drawn: from what the engine sends, at every moment of a run."""

from typing import Any

import pytest

from app.ui.plots.healing_curve import best_of, healing_curve, healing_pace
from core.heal.curve import Curve, HeldOutPoint, TrainPoint
from core.heal.outlook import look_ahead

STEPS, TOKENS = 20, 1000


def data(steps: int) -> dict[str, Any]:
    """What HealingNews sends after `steps`: the third look is the best one."""
    curve = Curve(steps=STEPS)
    for step in range(0, steps + 1, 2):
        kl = 0.5 / (1 + step) ** 0.4 if step <= 4 else 0.3
        curve.held_out.append(HeldOutPoint(tokens=step * TOKENS, kl=kl, perplexity_ratio=1 + kl))
    for step in range(1, steps + 1):
        curve.add(TrainPoint(tokens=step * TOKENS, loss=1 / step, learning_rate=3e-4, tokens_per_second=150))
    ahead = look_ahead(curve, STEPS)
    outlook = ahead.model_dump() if ahead else None
    return curve.as_figure() | {"steps": STEPS, "outlook": outlook, "tokens": STEPS * TOKENS}


def names(figure: Any) -> list[str]:
    return [trace.name for trace in figure.data]


@pytest.mark.parametrize("steps", [0, 1, 2, 20])
def test_it_can_be_drawn_from_the_first_look_on(steps: int) -> None:
    """Before the first step there is one point of the model as it came, and no speed."""
    figure = healing_curve(data(steps))
    assert {"training loss", "KL, held-back text", "best"} <= set(names(figure))
    assert len(figure.data[1].x) == steps // 2 + 1
    assert figure.layout.yaxis.type == figure.layout.yaxis2.type == "log"
    assert len(healing_pace(data(steps)).data[0].x) == steps


def test_the_weights_that_are_kept_are_marked_in_both() -> None:
    found = data(20)
    assert best_of(found["held_out"]) == 2
    rings = [trace for trace in healing_curve(found).data if trace.name == "best"]
    assert [(ring.x[0], ring.y[0]) for ring in rings] == [
        (4 * TOKENS, found["held_out"]["kl"][2]),
        (4 * TOKENS, found["held_out"]["perplexity_ratio"][2]),
    ]


def test_the_dashed_line_goes_from_the_last_look_to_the_tokens_that_were_asked_for() -> None:
    found = data(12)
    (ahead,) = (trace for trace in healing_curve(found).data if trace.name == "KL, predicted")
    assert ahead.line.dash == "dash"
    assert (ahead.x[0], ahead.x[-1]) == (12 * TOKENS, STEPS * TOKENS)
    # 25 points of a power law: the last one is what the engine says of the end
    assert ahead.y[-1] == pytest.approx(found["outlook"]["kl_at_end"], rel=1e-9)
    assert "KL, predicted" not in names(healing_curve(data(20)))
    assert "KL, predicted" not in names(healing_curve(data(2)))


def test_both_plots_have_the_same_tokens_under_each_other() -> None:
    curve, pace = healing_curve(data(12)), healing_pace(data(12))
    assert curve.layout.xaxis2.range == pace.layout.xaxis.range
    assert curve.layout.margin == pace.layout.margin
