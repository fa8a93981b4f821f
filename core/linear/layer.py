# SPDX-License-Identifier: Apache-2.0
"""The linear layers of one converted decoder layer, made smaller: the last step before it is written."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from core.calibrate.layer_statistics import LayerStatistics
from core.convert import LatentLayer
from core.linear.factoring import Linear, LinearFactors, output_metrics
from core.linear.key_moments import key_moments
from core.linear.mlp_step import MlpSample, refitted
from core.linear.moments import LinearStatistics
from core.linear.shapes import MLP_PARTS
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
        device = next(iter(mlp.values())).weight.device
        linears = measured.linears.to(device)
        weights = dict(mlp) | {
            part: Linear(latent.tensors[f"{name}.weight"], latent.tensors.get(f"{name}.bias")).to(device)
            for part, name in _OF_ATTENTION.items()
        }
        keys = None
        if recipe.linear_form != "local" and not shape.qk_norm:
            statistics = measured.attention
            keys = key_moments(
                latent.tensors, shape, statistics.input_covariance, statistics.attention_mass
            ).to(device)
        self._junction = recipe.junction
        metrics = output_metrics(linears, keys, recipe)
        self._factors = {
            part: LinearFactors(linear, linears.of(part), metrics[part], recipe, shrinkage)
            for part, linear in weights.items()
        }

    def at(self, plan: LayerPlan, mlp: MlpSample | None = None) -> LatentLayer:
        """The layer with the ranks of `plan`; what is not attention is in `rest`.

        With `mlp` the factored MLP is refitted through its nonlinearity.
        """
        factored = {one.part: self._factors[one.part].at(one) for one in plan.linears}
        if mlp is not None:
            whole = {part: self._factors[part].linear for part in MLP_PARTS if part in self._factors}
            factored |= refitted(whole, factored, mlp)
        tensors, rest = dict(self._latent.tensors), dict[str, Tensor]()
        for linear in plan.linears:
            found = {
                key: value.cpu()
                for key, value in stored_tensors(linear, factored[linear.part], self._junction).items()
            }
            name = _OF_ATTENTION.get(linear.part)
            if name is None:
                rest |= {f"{linear.path}.{key}": value for key, value in found.items()}
            else:
                tensors = {key: value for key, value in tensors.items() if not key.startswith(name + ".")}
                tensors |= {f"{name}.{key}": value for key, value in found.items()}
        if plan.kv_identity:
            tensors = identity_latent(tensors, plan.kv_lora_rank)
        return replace(self._latent, tensors=tensors, rest=rest)
