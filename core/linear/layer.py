# SPDX-License-Identifier: Apache-2.0
"""The linear layers of one converted decoder layer, made smaller: the last step before it is written."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from core.calibrate.layer_statistics import LayerStatistics
from core.convert import LatentLayer
from core.linear.factoring import Factored, Linear, LinearFactors, output_metrics
from core.linear.key_moments import key_moments
from core.linear.mlp_step import MlpSample, reader_metrics, refit_mlp_parts
from core.linear.moments import LinearStatistics
from core.linear.shapes import LinearPlan
from core.linear.stored import identity_latent, stored_tensors
from core.modeling import LatentShape
from core.planning import LayerPlan
from core.recipe import Recipe

# names of the latent attention's own modules
_OF_ATTENTION = {"query": "q_proj", "output": "o_proj"}


@dataclass(frozen=True)
class Measured:
    """What calibration knows of one decoder layer: its attention and its linear layers."""

    attention: LayerStatistics
    linears: LinearStatistics


class SmallerLayer:
    """One decoder layer with everything done that does not depend on the ranks of its linear layers.

    latent: the converted attention, its tensors whole; mlp: the original MLP by part.
    """

    def __init__(
        self,
        latent: LatentLayer,
        mlp: Mapping[str, Linear],
        shape: LatentShape,
        measured: Measured,
        recipe: Recipe,
        shrinkage: float,
    ) -> None:
        self._latent = latent
        self._recipe, self._shrinkage = recipe, shrinkage
        self._device = next(iter(mlp.values())).weight.device
        self._linears = measured.linears.to(self._device)
        keys = None
        if recipe.linear_form != "local" and not shape.qk_norm:
            statistics = measured.attention
            keys = key_moments(
                latent.tensors, shape, statistics.input_covariance, statistics.attention_mass
            ).to(self._device)
        self._metrics = output_metrics(self._linears, keys, recipe)
        self._mlp = mlp
        self._factors = {part: self._factors_of(part, linear) for part, linear in mlp.items()}
        self._factors["query"] = self._factors_of("query", self._of_attention(latent, "query"))

    def with_queries(self, plan: LayerPlan) -> LatentLayer:
        """The latent attention with nothing smaller but its queries: what W_O is refitted behind."""
        (query,) = (one for one in plan.linears if one.part == "query")
        factored = self._factors["query"].at(query)
        return replace(self._latent, tensors=self._replaced(self._latent.tensors, query, factored))

    def at(
        self, plan: LayerPlan, refitted: LatentLayer | None = None, mlp: MlpSample | None = None
    ) -> LatentLayer:
        """The layer with the ranks of `plan`; what is not attention is in `rest`.

        refitted: the attention of `with_queries` after a refit, whose W_O is taken. With `mlp` the factored
        MLP is refitted through its nonlinearity.
        """
        output = self._factors_of("output", self._of_attention(refitted or self._latent, "output"))
        factors = self._factors | {"output": output}
        if mlp is not None:
            factors |= self._behind_readers(mlp)
        factored = {one.part: factors[one.part].at(one) for one in plan.linears}
        if mlp is not None:
            factored |= refit_mlp_parts(self._mlp, factored, mlp)
        tensors, rest = dict(self._latent.tensors), dict[str, Tensor]()
        for linear in plan.linears:
            if linear.part in _OF_ATTENTION:
                tensors = self._replaced(tensors, linear, factored[linear.part])
            else:
                found = self._stored(linear, factored[linear.part])
                rest |= {f"{linear.path}.{key}": value for key, value in found.items()}
        if plan.kv_identity:
            tensors = identity_latent(tensors, plan.kv_lora_rank)
        return replace(self._latent, tensors=tensors, rest=rest)

    def _replaced(
        self, tensors: dict[str, Tensor], plan: LinearPlan, factored: Factored | Linear
    ) -> dict[str, Tensor]:
        """The attention's tensors with one of its linear layers as the plan stores it."""
        name = _OF_ATTENTION[plan.part]
        others = {key: value for key, value in tensors.items() if not key.startswith(name + ".")}
        return others | {f"{name}.{key}": value for key, value in self._stored(plan, factored).items()}

    def _stored(self, plan: LinearPlan, factored: Factored | Linear) -> dict[str, Tensor]:
        found = stored_tensors(plan, factored, self._recipe.junction)
        return {key: value.cpu() for key, value in found.items()}

    def _behind_readers(self, mlp: MlpSample) -> dict[str, LinearFactors]:
        """Factors of gate and up that know how their channels reach the output of the MLP together."""
        metrics = reader_metrics(self._mlp, mlp)
        found = {}
        for part, metric in metrics.items():
            weight = self._linears.channel_weight(part)
            if weight is not None:
                scale = (weight / metric.diagonal().clamp_min(metric.diagonal().mean() * 1e-6)).sqrt()
                metric = scale[:, None] * metric * scale
            found[part] = self._factors_of(part, self._mlp[part], metric)
        return found

    def _factors_of(self, part: str, linear: Linear, metric: Tensor | None = None) -> LinearFactors:
        output = self._metrics[part] if metric is None else metric
        return LinearFactors(linear, self._linears.of(part), output, self._recipe, self._shrinkage)

    def _of_attention(self, latent: LatentLayer, part: str) -> Linear:
        name = _OF_ATTENTION[part]
        return Linear(latent.tensors[f"{name}.weight"], latent.tensors.get(f"{name}.bias")).to(self._device)
