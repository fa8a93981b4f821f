# SPDX-License-Identifier: Apache-2.0
"""How long a job would take here, scaled from the last one that was done here; no job, no guess."""

import math

from app.services.workbench import Workbench
from core.errors import WorkbenchError
from core.facts import ModelFacts
from core.further.spec import Measurements
from core.profiles import spec_for_profile
from core.spec import JobSpec
from core.store.views import JobView, State
from core.widths import PRE_ROPE

# starting a process with torch in it, twice: once to convert, once to reload the result
FIXED_SECONDS = 15.0
# a rate is carried over to jobs this many times as large, no further
_FARTHEST = 1000
# of so many jobs the newest conversions and profiles are asked
_LOOKED_AT, _ASKED = 30, 5
# a gradient costs about two forward passes beside the one it needs
_BACKWARD = 3
# the rest was fitted to the stages of one `fast` conversion of the demo: decompositions and products of a
# layer, d x d, in d^3, and what its statistics take per token in d^2
_LAYER_CUBES = 130
_STATISTICS_SQUARES = 16
# an allocation factorises every layer anew, for several numbers of rotary dims where there are any, and runs
# the original and its candidates on two held-back windows
_ALLOCATION_CUBES = {True: 2 * _LAYER_CUBES, False: 5 * _LAYER_CUBES}
_ALLOCATION_HELD_BACK = 2
# looking at the inputs of linear layers takes as long as the rest of the calibration
_WITH_LINEARS = 2
_ALLOCATION_WINDOWS = _ALLOCATION_HELD_BACK * 4
# writing an answer and weighing its choices, in tokens read meanwhile: 600 to 900 on the demo for one number
_ANSWER_TOKENS = 1_000
# a profile factorises every layer for several numbers of rotary dims, and refits and tries eight budgets
_PROFILE_BUDGETS = 8
_PROFILE_CUBES = 4 * _LAYER_CUBES


def predicted_seconds(
    workbench: Workbench, spec: JobSpec, facts: ModelFacts, *, calibrates: bool | None = None
) -> float | None:
    """Seconds for `spec`, in proportion to its work; None before the first job was done here.

    Whether it calibrates is found out, when it is not said.
    """
    if calibrates is None:
        calibrates = spec.kind == "profile" or not is_profiled(workbench, spec, facts)
    asked = work(spec, facts, calibrates=calibrates)
    rate = rate_here(workbench, asked)
    return None if rate is None else FIXED_SECONDS + asked / rate


def rate_here(workbench: Workbench, asked: float) -> float | None:
    """Multiply-adds per second of the last job that says something about `asked` of them; None before it."""
    done = workbench.store.list(states=[State.DONE], limit=_LOOKED_AT)
    # a healing was timed as a whole number of steps: see healing_time
    jobs = [job for job in done if job.spec.heal is None][:_ASKED]
    rates = (_rate(workbench, job, asked) for job in jobs)
    return next((rate for rate in rates if rate is not None), None)


def params_of(facts: ModelFacts) -> int:
    """Multiply-adds of a token that passes all layers and the head."""
    head = facts.vocab_size * facts.hidden_size
    return max(0, facts.parameters - head * (1 if facts.is_tied else 2)) + head


def is_profiled(workbench: Workbench, spec: JobSpec, facts: ModelFacts) -> bool:
    """Whether the model's newest profile looks like the calibration of `spec`; the engine compares hashes."""
    found, asked = workbench.profiles.newest(workbench.settings.home, facts.name), spec.calibration
    windows = min(asked.fisher_tokens, asked.tokens) / asked.context
    return (
        # a profile has not looked at the inputs of linear layers
        spec.weights_keep is None
        and found is not None
        and found.text == asked.text
        and found.tokens == asked.tokens // asked.context * asked.context
        and (not spec.needs_fisher or found.fisher_windows == math.ceil(windows))
    )


def work(spec: JobSpec, facts: ModelFacts, *, calibrates: bool = True) -> float:
    """Multiply-adds, roughly: every token passes the layers' weights forward, some backward too."""
    if spec.kind == "profile":
        return _profile_work(spec, facts) if calibrates else 0.0
    if spec.evaluate is not None:
        return _evaluation_work(spec.evaluate, facts)
    return _conversion_work(spec, facts, calibrates)


def _profile_work(spec: JobSpec, facts: ModelFacts) -> float:
    """Calibration for every recipe, then both presets at eight budgets: factorised, refitted and tried."""
    asked = spec_for_profile(spec)
    bare = asked.recipe.model_copy(update={"allocate": "uniform", "refit_output": False})
    calibration = _conversion_work(asked.model_copy(update={"recipe": bare, "kind": "convert"}), facts, True)
    head = facts.vocab_size * facts.hidden_size
    layers = max(0, facts.parameters - head * (1 if facts.is_tied else 2))
    refitted = layers + _PROFILE_BUDGETS * 2 * facts.layers * facts.hidden_size**2
    total = 2 * min(asked.calibration.refit_tokens, asked.calibration.tokens) * refitted
    total += 2 * _PROFILE_BUDGETS * _ALLOCATION_HELD_BACK * asked.calibration.context * (layers + head)
    return calibration + total + _PROFILE_CUBES * facts.layers * facts.hidden_size**3


def _evaluation_work(asked: Measurements, facts: ModelFacts) -> float:
    """Original and conversion read every window, every model every question; lm-eval is left out."""
    models = 1 + len(asked.conversions)
    texts = len(asked.texts) * asked.windows * sum(asked.contexts) * (2 * len(asked.conversions) or 1)
    questions = len(asked.retrieval) * asked.samples
    read = sum(size + _ANSWER_TOKENS for size in asked.retrieval_contexts)
    return float(params_of(facts) * (texts + questions * read * models))


def _conversion_work(spec: JobSpec, facts: ModelFacts, calibrates: bool) -> float:
    head = facts.vocab_size * facts.hidden_size
    layers = max(0, facts.parameters - head * (1 if facts.is_tied else 2))
    per_token = layers + _STATISTICS_SQUARES * facts.layers * facts.hidden_size**2
    looks = _WITH_LINEARS if spec.weights_keep is not None else 1
    total = looks * spec.calibration.tokens * per_token if calibrates else 0
    if spec.needs_fisher and calibrates:
        total += min(spec.calibration.fisher_tokens, spec.calibration.tokens) * _BACKWARD * (layers + head)
    if spec.recipe.refit_output:
        # the original's layers, and the converted attention
        total += 3 * min(spec.calibration.refit_tokens, spec.calibration.tokens) * layers // 2
    cubes = _LAYER_CUBES
    if spec.allocates:
        cubes += _ALLOCATION_CUBES[spec.recipe.layout == PRE_ROPE]
        total += _ALLOCATION_WINDOWS * spec.calibration.context * (layers + head)
    if spec.allocates_weights:
        total += _ALLOCATION_WINDOWS * spec.calibration.context * (layers + head)
    if spec.evaluation is not None:
        # original and converted
        total += 2 * spec.evaluation.windows * spec.evaluation.context * (layers + head)
    return float(total + cubes * facts.layers * facts.hidden_size**3)


def _rate(workbench: Workbench, job: JobView, asked: float) -> float | None:
    """Multiply-adds per second of a job that ran in one go and whose model can still be read.

    A job a thousand times smaller than what is asked was all start-up: it says nothing.
    """
    seconds = job.metrics.get("seconds", 0.0)
    if job.attempt != 1 or seconds <= 0:
        return None
    try:
        facts = workbench.facts.read(job.spec.model, job.spec.revision, workbench.settings)
    except WorkbenchError:
        return None
    # a tiny model is all start-up: then at least a tenth of its time was work
    calibrates = job.metrics.get("calibrated_tokens", 1) > 0
    if job.spec.kind == "profile" and not calibrates:
        return None  # it was there already
    done = work(job.spec, facts, calibrates=calibrates)
    return done / max(seconds - FIXED_SECONDS, seconds / 10) if done * _FARTHEST >= asked else None
