# SPDX-License-Identifier: Apache-2.0
"""What a conversion with a budget of weights does beside one without."""

from collections.abc import Callable
from pathlib import Path

from core.calibrate.layer_statistics import LayerStatistics
from core.convert import AttentionWeights, LatentLayer
from core.export.layout import latent_shape
from core.layer_weights import mlp_weights
from core.linear.choosing import LinearAllocation, LinearChoosing, Readers
from core.linear.factoring import Linear
from core.linear.layer import Measured, SmallerLayer
from core.linear.mlp_step import MlpSample
from core.linear.moments import load_linears
from core.planning import LayerPlan
from core.preflight import Prepared
from core.refit import OutputRefit
from core.spec import JobSpec
from core.weights.skeleton import Skeleton
from core.weights.tensors import TensorSource


class LinearStage:
    """The linear layers of one conversion; `statistics` is the folder that calibration fills."""

    def __init__(
        self,
        spec: JobSpec,
        ready: Prepared,
        skeleton: Skeleton,
        source: TensorSource,
        attention: Callable[[int], AttentionWeights],
        statistics: Path,
    ) -> None:
        self._spec = spec
        self._ready = ready
        self._skeleton = skeleton
        self._source = source
        self._attention = attention
        self._statistics = statistics

    @property
    def refits_mlp(self) -> bool:
        """Whether the factored MLP is fitted to the outputs of the whole one."""
        return self._spec.weights_keep is not None and self._spec.recipe.linear_form == "joint"

    def choosing(self, file: Path) -> LinearChoosing | None:
        """The choice between allocations, which `file` keeps; None when there is nothing to choose."""
        if not self._spec.allocates_weights:
            return None
        readers = Readers(self._attention, self._mlp)
        return LinearChoosing(self._spec, self._ready, self._skeleton, readers, self._statistics, file)

    def smaller(
        self, layer: LayerPlan, latent: LatentLayer, statistics: LayerStatistics, refit: OutputRefit | None
    ) -> LatentLayer:
        """The converted layer, refitted if `refit` is there, with its linear layers as the plan stores them.

        The refit sees the smaller queries, so W_O makes up for them too, as far as it can.
        """
        if not layer.linears:
            return latent if refit is None else _refitted(refit, layer.index, latent)
        recipe, shrinkage = self._spec.recipe, self._spec.calibration.shrinkage
        measured = Measured(statistics, load_linears(self._statistics, layer.index))
        shape = latent_shape(self._ready.facts, layer)
        factors = SmallerLayer(latent, self._mlp(layer.index), shape, measured, recipe, shrinkage)
        if refit is None:
            return factors.at(layer)
        seen = _refitted(refit, layer.index, factors.with_queries(layer))
        read = refit.mlp_inputs
        sample = None if read is None else MlpSample(read, self._skeleton.activation())
        return factors.at(layer, seen, sample)

    def _mlp(self, index: int) -> dict[str, Linear]:
        return mlp_weights(self._source, self._ready.family, index, self._ready.device)


def _refitted(refit: OutputRefit, index: int, latent: LatentLayer) -> LatentLayer:
    return refit.advance(index, {"export": latent})["export"]


def spread_words(allocation: LinearAllocation) -> str:
    """What the log says of the choice."""
    losses = ", ".join(f"{name} {measured:.3f}" for name, (_, measured) in allocation.losses.items())
    return f"weights spread '{allocation.winner}' loses least on held-back text (KL: {losses})"
