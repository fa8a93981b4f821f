# SPDX-License-Identifier: Apache-2.0
"""Both models' figures of every window, and what they say together: intervals and a paired test."""

from dataclasses import dataclass

from core.evaluate.intervals import LEVEL, Interval, mean_interval
from core.evaluate.paired import paired_p_value
from core.evaluate.perplexity import exp_or_inf
from core.evaluate.scores import TokenScores


@dataclass(frozen=True)
class PairedFigures:
    """Of windows both models read. loss_difference: converted less original, nats per token.

    perplexity_ratio is its exp. p_value: of equal loss.
    """

    windows: int
    loss_difference: Interval
    perplexity_ratio: Interval
    kl_to_base: Interval
    top1_agreement: Interval
    p_value: float

    def as_json(self) -> dict[str, object]:
        """The object `paired` of a report."""
        return {
            "windows": self.windows,
            "level": LEVEL,
            "perplexity_ratio": self.perplexity_ratio.as_json(),
            "loss_difference": self.loss_difference.as_json(),
            "kl_to_base": self.kl_to_base.as_json(),
            "top1_agreement": self.top1_agreement.as_json(),
            "p_value": self.p_value,
        }


class WindowTally:
    """Add the scores of every window, ask for the figures."""

    def __init__(self) -> None:
        self._differences: list[float] = []
        self._divergences: list[float] = []
        self._agreements: list[float] = []

    def add(self, scores: TokenScores) -> None:
        """Count one window in; all must be of one length."""
        self._differences.append(float((scores.loss - scores.loss_base).mean()))
        self._divergences.append(float(scores.divergence.mean()))
        self._agreements.append(float(scores.agrees.double().mean()))

    def figures(self) -> PairedFigures | None:
        """None of fewer than two windows: one says nothing of how much they vary."""
        difference = mean_interval(self._differences)
        divergence, agreement = mean_interval(self._divergences), mean_interval(self._agreements)
        if difference is None or divergence is None or agreement is None:
            return None
        return PairedFigures(
            windows=len(self._differences),
            loss_difference=difference,
            perplexity_ratio=difference.through(exp_or_inf),
            kl_to_base=divergence.within(0.0, float("inf")),
            top1_agreement=agreement.within(0.0, 1.0),
            p_value=paired_p_value(self._differences),
        )
