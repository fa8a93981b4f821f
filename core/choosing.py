# SPDX-License-Identifier: Apache-2.0
"""Decide how the byte budget is spread over layers: profile every layer, then measure the candidates.

The second-order prediction proposes, held-back text decides. Its scale is set by the uniform candidate, so
that what is predicted for the winner can be compared with what is measured for it.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from core.allocate import ALLOCATE, rope_grid
from core.calibrate.layer_statistics import load_statistics
from core.convert import AttentionWeights, LayerConverter, converters_for
from core.export.folder import mla_config
from core.layer_profile import LayerProfile
from core.layer_widths import layer_widths
from core.planning import Plan, make_plan
from core.preflight import Prepared
from core.profile import profile_layer
from core.spec import JobSpec, Recipe
from core.trial import Trial
from core.weights.skeleton import Skeleton
from core.widths import Widths, groups_of, most_rope_dims


@dataclass(frozen=True)
class Candidate:
    """One allocation; losses are KL(original || converted) in nats per token."""

    widths: tuple[Widths, ...]
    predicted: float
    measured: float


@dataclass(frozen=True)
class Allocation:
    """The candidates and the name of the one with the smallest measured loss."""

    winner: str
    candidates: Mapping[str, Candidate]

    @property
    def widths(self) -> tuple[Widths, ...]:
        """What the winner gives every layer."""
        return self.candidates[self.winner].widths

    def words(self, recipe: Recipe) -> str:
        """What the log says of the choice."""
        when = ", before W_O is fitted anew" if recipe.refit_output else ""
        losses = ", ".join(f"{name} {one.measured:.3f}" for name, one in self.candidates.items())
        return f"allocation '{self.winner}' loses least on held-back text (KL{when}: {losses})"


class Choosing:
    """One choice between the candidates of a recipe; `file` keeps the outcome for a resumed run."""

    def __init__(
        self,
        spec: JobSpec,
        ready: Prepared,
        skeleton: Skeleton,
        attention: Callable[[int], AttentionWeights],
        statistics: Path,
        file: Path,
    ) -> None:
        self._spec = spec
        self._ready = ready
        self._skeleton = skeleton
        self._attention = attention
        self._statistics = statistics
        self._file = file
        self._widths = layer_widths(spec, ready.facts)

    @staticmethod
    def step_count(layers: int) -> int:
        """Steps that `steps` takes: every layer profiled, every layer tried."""
        return 2 * layers

    def finished_steps(self) -> int:
        """Of those steps, how many an earlier attempt left finished: all or none."""
        return self.step_count(self._ready.facts.layers) if self._file.is_file() else 0

    def steps(self) -> Iterator[str]:
        """Yield a line for every finished step; nothing is computed when the outcome is there already."""
        layers = self._ready.facts.layers
        if self.finished_steps():
            yield from (f"layer {index}: allocated before" for index in range(layers) for _ in range(2))
            return
        profiles = []
        for index in range(layers):
            profiles.append(self._profile(index))
            yield f"layer {index}: profiled"
        yield from self._try(profiles)

    def outcome(self) -> Allocation:
        """What `steps` found."""
        found = json.loads(self._file.read_text())
        candidates = {
            name: Candidate(
                tuple(Widths(**widths) for widths in one["widths"]), one["predicted"], one["measured"]
            )
            for name, one in found["candidates"].items()
        }
        return Allocation(found["winner"], candidates)

    def _profile(self, index: int) -> LayerProfile:
        converters = self._converters(index, self._rope_dims(index))
        return profile_layer(list(converters.items()), load_statistics(self._statistics, index))

    def _rope_dims(self, index: int) -> list[int]:
        """Numbers of rotary dims to look at; there is but one when pairs were chosen."""
        usual = self._widths[index]
        if self._spec.rope_pairs is not None:
            return [usual.rope_dim]
        most = most_rope_dims(self._spec.recipe, self._ready.facts)
        return rope_grid(self._spec.recipe.allocate, usual, most)

    def _converters(self, index: int, rope_dims: Iterable[int]) -> dict[int, LayerConverter]:
        """The layer with each number of rotary dims; ranks are open."""
        return converters_for(
            rope_dims,
            self._attention(index),
            load_statistics(self._statistics, index),
            self._skeleton.inv_freq(index),
            self._ready.plan.layers[index],
            self._spec.recipe,
            self._spec.calibration.shrinkage,
        )

    def _try(self, profiles: list[LayerProfile]) -> Iterator[str]:
        facts, spec = self._ready.facts, self._spec
        proposed = ALLOCATE[spec.recipe.allocate](profiles, self._widths, groups_of(spec.recipe, facts))
        plans: dict[str, Plan] = {name: make_plan(spec, facts, widths) for name, widths in proposed.items()}
        configs = {name: mla_config(facts, plan.whole) for name, plan in plans.items()}
        trial = Trial(self._skeleton, self._ready.family, configs, self._ready.held_back)
        for index in range(facts.layers):
            dims = {name: widths[index].rope_dim for name, widths in proposed.items()}
            converters = self._converters(index, dims.values())
            trial.advance(
                index, {name: converters[dims[name]].at(plan.layers[index]) for name, plan in plans.items()}
            )
            yield f"layer {index}: tried with {len(plans)} allocations"
        measured = trial.divergences()
        raw = {
            name: sum(one.loss(width) for one, width in zip(profiles, widths, strict=True))
            for name, widths in proposed.items()
        }
        scale = measured["uniform"] / max(raw["uniform"], 1e-12)
        candidates = {
            name: Candidate(tuple(widths), raw[name] * scale, measured[name])
            for name, widths in proposed.items()
        }
        self._save(Allocation(min(measured, key=measured.__getitem__), candidates))

    def _save(self, found: Allocation) -> None:
        candidates = {name: asdict(one) for name, one in found.candidates.items()}
        partial = self._file.with_suffix(".partial")
        partial.write_text(json.dumps({"winner": found.winner, "candidates": candidates}))
        partial.rename(self._file)
