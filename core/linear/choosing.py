# SPDX-License-Identifier: Apache-2.0
"""Decide how the budget of weights is spread: predict every rank's loss, then measure the candidates.

Like core/choosing.py for the bytes of the cache, and after it: the cache's widths are settled by then.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.calibrate.layer_statistics import load_statistics
from core.convert import AttentionWeights, convert_layer
from core.export.folder import mla_config
from core.export.layout import latent_shape
from core.linear.allocate import Array, Losses, candidates, predicted
from core.linear.factoring import Linear, predicted_losses
from core.linear.layer import Measured, SmallerLayer
from core.linear.moments import load_linears
from core.linear.shapes import LinearPlan
from core.planning import Plan, make_plan
from core.preflight import Prepared
from core.spec import JobSpec
from core.trial import Trial
from core.weights.skeleton import Skeleton

Ranks = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class LinearAllocation:
    """The ranks that won, and for every candidate the predicted and the measured KL in nats per token."""

    winner: str
    ranks: Ranks
    losses: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Readers:
    """How the original's weights of a layer are had: its attention, and its MLP by part."""

    attention: Callable[[int], AttentionWeights]
    mlp: Callable[[int], dict[str, Linear]]


class LinearChoosing:
    """One choice between the candidates; `file` keeps the outcome for a resumed run."""

    def __init__(
        self,
        spec: JobSpec,
        ready: Prepared,
        skeleton: Skeleton,
        readers: Readers,
        statistics: Path,
        file: Path,
    ) -> None:
        self._spec = spec
        self._ready = ready
        self._skeleton = skeleton
        self._readers = readers
        self._statistics = statistics
        self._file = file

    @staticmethod
    def step_count(layers: int) -> int:
        """Steps that `steps` takes: every layer looked at, every layer tried."""
        return 2 * layers

    def finished_steps(self) -> int:
        """How many of them an earlier run took: all, or none."""
        return self.step_count(self._ready.facts.layers) if self._file.is_file() else 0

    def steps(self, plan: Plan) -> Iterator[str]:
        """Yield a line for every finished step; `plan` has the cache's widths and uniform ranks."""
        layers = len(plan.layers)
        if self._file.is_file():
            yield from (f"layer {index}: weights allocated before" for index in range(layers) for _ in "ab")
            return
        losses: dict[tuple[int, str], Array] = {}
        for index in range(layers):
            losses |= self._losses(index)
            yield f"layer {index}: what ranks of its linear layers lose"
        yield from self._try(plan, losses)

    def outcome(self) -> LinearAllocation:
        """What `steps` found."""
        found = json.loads(self._file.read_text())
        ranks = tuple(tuple(layer) for layer in found["ranks"])
        losses = {name: (one[0], one[1]) for name, one in found["losses"].items()}
        return LinearAllocation(found["winner"], ranks, losses)

    def _losses(self, index: int) -> dict[tuple[int, str], Array]:
        """What every rank loses; the original query stands for the converted one."""
        attention = self._readers.attention(index)
        weights = self._readers.mlp(index) | {
            "query": Linear(attention.q, attention.q_bias),
            "output": Linear(attention.o, attention.o_bias),
        }
        found = predicted_losses(
            weights,
            load_linears(self._statistics, index).to(self._ready.device),
            self._spec.recipe,
            self._spec.calibration.shrinkage,
        )
        return {(index, part): loss.cpu().numpy() for part, loss in found.items()}

    def _try(self, plan: Plan, losses: Losses) -> Iterator[str]:
        uniform = [layer.linears for layer in plan.layers]
        proposed = candidates(uniform, losses, self._spec.recipe)
        plans = {name: self._planned(plan, layers) for name, layers in proposed.items()}
        configs = {name: mla_config(self._ready.facts, one) for name, one in plans.items()}
        trial = Trial(self._skeleton, self._ready.family, configs, self._ready.held_back)
        for index in range(len(plan.layers)):
            smaller = self._smaller(plan, index)
            trial.advance(index, {name: smaller.at(one.layers[index]) for name, one in plans.items()})
            yield f"layer {index}: weights tried with {len(plans)} allocations"
        measured = trial.divergences()
        found = {name: (predicted(layers, losses), measured[name]) for name, layers in proposed.items()}
        winner = min(measured, key=measured.__getitem__)
        ranks = tuple(tuple(one.rank for one in layer) for layer in proposed[winner])
        self._save(LinearAllocation(winner, ranks, found))

    def _planned(self, plan: Plan, layers: Sequence[Sequence[LinearPlan]]) -> Plan:
        widths = [layer.widths for layer in plan.layers]
        ranks = [[one.rank for one in layer] for layer in layers]
        return make_plan(self._spec, self._ready.facts, widths, ranks)

    def _smaller(self, plan: Plan, index: int) -> SmallerLayer:
        spec, layer = self._spec, plan.layers[index]
        statistics = load_statistics(self._statistics, index)
        latent = convert_layer(
            self._readers.attention(index),
            statistics,
            self._skeleton.inv_freq(index),
            layer,
            spec.recipe,
            spec.calibration.shrinkage,
        )
        return SmallerLayer(
            latent,
            self._readers.mlp(index),
            latent_shape(self._ready.facts, layer),
            Measured(statistics, load_linears(self._statistics, index)),
            spec.recipe,
            spec.calibration.shrinkage,
        )

    def _save(self, found: LinearAllocation) -> None:
        partial = self._file.with_suffix(".partial")
        partial.write_text(
            json.dumps({"winner": found.winner, "ranks": found.ranks, "losses": dict(found.losses)})
        )
        partial.rename(self._file)
