# SPDX-License-Identifier: Apache-2.0
"""What a budget of weights saved, from the record of a finished job."""

from collections.abc import Mapping

from core.spec import Frozen

_FLOPS_PER_NUMBER = 2


class LinearSavings(Frozen):
    """Parameters of the linear layers of all decoder layers, and what they compute for one token."""

    before: int
    after: int

    @property
    def share(self) -> float:
        """The part of them that is gone."""
        return 1 - self.after / self.before

    @property
    def flops_before(self) -> int:
        """FLOPs per token: every number meets it once, in a multiplication and an addition."""
        return _FLOPS_PER_NUMBER * self.before

    @property
    def flops_after(self) -> int:
        return _FLOPS_PER_NUMBER * self.after


def linear_savings(metrics: Mapping[str, float]) -> LinearSavings | None:
    """None for a job that had no budget of weights."""
    before, after = (metrics.get(f"linear_parameters_{one}") for one in ("before", "after"))
    if not before or after is None:
        return None
    return LinearSavings(before=int(before), after=int(after))


def with_linear_flops(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics of a job, with the FLOPs that follow from those of its linear layers."""
    found = linear_savings(metrics)
    if found is None:
        return dict(metrics)
    return {**metrics, "linear_flops_before": found.flops_before, "linear_flops_after": found.flops_after}
