# SPDX-License-Identifier: Apache-2.0
"""Make a profile: calibrate, describe every layer to the recipes, fit predictions to measured losses."""

import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.calibrate.layer_statistics import load_statistics
from core.calibrate.steps import calibrate, step_count
from core.convert import converters_for
from core.events import Cancel, Progress, Sink, StageStarted
from core.export.folder import mla_config
from core.layer_weights import attention_weights
from core.planning import make_plan
from core.preflight import Prepared, prepare, remove_empty
from core.presets import PRESETS
from core.profile import LayerProfile, profile_layer
from core.profiles import (
    FILE,
    STATISTICS,
    LayerCurves,
    MeasuredPoint,
    Profile,
    RecipeCurves,
    find_statistics,
    profile_folder,
    spec_for_profile,
)
from core.refit import OutputRefit
from core.settings import Settings
from core.spec import JobSpec
from core.trial import Trial
from core.weights.skeleton import Skeleton
from core.weights.tensors import TensorSource
from core.widths import Widths, solve
from core.workspace import Workspace

# the presets a profile speaks about, and the uniform budgets that are measured to fit its predictions
RECIPES = ("quality", "fast")
FITTED = (0.125, 0.1875, 0.25, 0.3125, 0.5, 0.75)
# points of a tail that are stored; what lies between them is interpolated
POINTS = 192
# weights of a lost logit energy that are tried in the fit, beside none; its unit depends on the model
_WEIGHTS = (0.0, *(10.0 ** (power / 4) for power in range(-32, 1)))


def make_profile(spec: JobSpec, settings: Settings, sink: Sink, cancel: Cancel) -> Path:
    """Profile the model of `spec`; returns the folder. Call it again to resume, or to find it finished.

    Of `spec` the model, the calibration and the device count. Raises WorkbenchError, or Cancelled.
    """
    asked = spec_for_profile(spec)
    home = settings.home
    sink.emit(StageStarted(stage="preparing"))
    # checks that the disk can be written; the folder is named once the fingerprint is known
    trial = home / "profiles" / "checking"
    ready = prepare(asked, Workspace(work=trial, result=home / "profiles" / "none"), settings)
    remove_empty(trial, home)
    folder = profile_folder(home, ready.statistics_fingerprint)
    if find_statistics(home, ready.statistics_fingerprint, ready.sample.fisher_windows):
        return folder
    work = folder.with_suffix(".partial")
    work.mkdir(parents=True, exist_ok=True)
    layers = ready.facts.layers
    total = step_count(layers, ready.sample) + len(RECIPES) * layers
    sink.emit(StageStarted(stage="calibrating", total=total))
    for done, message in enumerate(_steps(asked, ready, work), start=1):
        sink.emit(Progress(stage="calibrating", done=done, total=total, message=message))
        cancel.check()
    shutil.rmtree(folder, ignore_errors=True)
    work.rename(folder)
    return folder


def _steps(spec: JobSpec, ready: Prepared, work: Path) -> Iterator[str]:
    skeleton = Skeleton(Path(ready.facts.folder), ready.family, ready.device)
    yield from calibrate(skeleton, ready.facts, ready.family, ready.sample, work / STATISTICS)
    found = []
    for name in RECIPES:
        curves = _Curves(spec, ready, skeleton, work / STATISTICS, name)
        yield from curves.steps()
        found.append(curves.fitted())
    profile = Profile(
        fingerprint=ready.statistics_fingerprint,
        model=ready.facts.name,
        text=spec.calibration.text,
        tokens=ready.sample.windows.numel(),
        fisher_windows=ready.sample.fisher_windows,
        recipes=tuple(found),
    )
    partial = work / (FILE + ".partial")
    partial.write_text(profile.model_dump_json(), encoding="utf-8")
    partial.rename(work / FILE)


class _Curves:
    """One preset on one model: its curves, and the losses of its uniform budgets on held-back text."""

    def __init__(
        self, spec: JobSpec, ready: Prepared, skeleton: Skeleton, statistics: Path, preset: str
    ) -> None:
        self._ready, self._skeleton, self._statistics = ready, skeleton, statistics
        self._states = statistics.with_name("refit")
        recipe = PRESETS[preset].recipe
        self._shrinkage = spec.calibration.shrinkage
        specs = {keep: spec.model_copy(update={"recipe": recipe, "keep": keep}) for keep in FITTED}
        self._recipe = recipe
        self._widths = {keep: solve(one, ready.facts) for keep, one in specs.items()}
        self._plans = {str(keep): make_plan(one, ready.facts) for keep, one in specs.items()}
        self._layers: list[LayerProfile] = []
        self._measured: dict[str, float] = {}

    def steps(self) -> Iterator[str]:
        """Profile every layer, trying all fitted budgets as it goes."""
        ready = self._ready
        configs = {name: mla_config(ready.facts, plan) for name, plan in self._plans.items()}
        trial = Trial(self._skeleton, ready.family, configs, ready.held_back)
        refit = OutputRefit(self._skeleton, ready.family, configs, ready.refit, self._states)
        source = TensorSource(Path(ready.facts.folder))
        for index in range(ready.facts.layers):
            statistics = load_statistics(self._statistics, index)
            converters = converters_for(
                (widths.rope_dim for widths in self._widths.values()),
                attention_weights(source, ready.family, index, ready.device),
                statistics,
                self._skeleton.inv_freq,
                self._plans[str(FITTED[0])].layers[index],
                self._recipe,
                self._shrinkage,
            )
            self._layers.append(profile_layer(list(converters.items()), statistics))
            latent = {
                str(keep): converters[widths.rope_dim].at(self._plans[str(keep)].layers[index])
                for keep, widths in self._widths.items()
            }
            trial.advance(index, refit.advance(index, latent) if self._recipe.refit_output else latent)
            yield f"layer {index}: profiled for layout {self._recipe.layout}"
        shutil.rmtree(self._states)
        self._measured = trial.divergences()

    def fitted(self) -> RecipeCurves:
        """The curves with the constants that fit the measured losses best."""
        width = max(one.spectrum.shape[1] for one in self._layers)
        ranks = tuple(sorted({round(index * width / POINTS) for index in range(POINTS + 1)}))
        layers = tuple(
            LayerCurves(
                rope_dims=one.rope_dims,
                rope_lost=tuple(float(f"{value:.6g}") for value in one.rope_lost.tolist()),
                tail=tuple(
                    tuple(float(f"{float(one.tail(dims)[rank]):.6g}") for rank in ranks)
                    for dims in one.rope_dims
                ),
            )
            for one in self._layers
        )
        unfitted = RecipeCurves(
            recipe=self._recipe,
            ranks=ranks,
            layers=layers,
            rope_weight=0.0,
            scale=1.0,
            exponent=1.0,
            spread=1.0,
            points=(),
        )
        count = len(layers)
        widths: list[Sequence[Widths]] = [[one] * count for one in self._widths.values()]
        measured = [self._measured[str(keep)] for keep in self._widths]
        fits = {weight: fit([unfitted.raw(one, weight) for one in widths], measured) for weight in _WEIGHTS}
        weight, best = min(fits.items(), key=lambda one: one[1].spread)
        raw = [unfitted.raw(one, weight) for one in widths]
        points = tuple(
            MeasuredPoint(keep=keep, predicted=best.scale * value**best.exponent, measured=loss)
            for keep, value, loss in zip(self._widths, raw, measured, strict=True)
        )
        update = {"rope_weight": weight, "scale": best.scale, "exponent": best.exponent}
        return unfitted.model_copy(update=update | {"spread": best.spread, "points": points})


@dataclass(frozen=True)
class Fit:
    """measured ~ scale * raw^exponent; `spread` is the worst factor of a point left out of the fit."""

    scale: float
    exponent: float
    spread: float


def fit(raw: Sequence[float], measured: Sequence[float]) -> Fit:
    """Least squares between the logarithms, with the error on points the line did not see."""
    # a loss of nothing has no logarithm; 1e-9 nats is below what float32 logits can show
    x, y = ([math.log(max(one, 1e-9)) for one in values] for values in (raw, measured))
    scale, exponent = _line(x, y)
    worst = 0.0
    for left_out in range(len(x)):
        others = [index for index in range(len(x)) if index != left_out]
        offset, slope = _line([x[index] for index in others], [y[index] for index in others])
        worst = max(worst, abs(offset + slope * x[left_out] - y[left_out]))
    return Fit(math.exp(scale), exponent, math.exp(worst))


def _line(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """(offset, slope) of the least-squares line; flat when all x are the same."""
    centre, height = sum(x) / len(x), sum(y) / len(y)
    below = sum((one - centre) ** 2 for one in x)
    slope = (
        sum((one - centre) * (two - height) for one, two in zip(x, y, strict=True)) / below if below else 0.0
    )
    return height - slope * centre, slope
