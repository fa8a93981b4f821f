# SPDX-License-Identifier: Apache-2.0
"""The stored request of a job, in words."""

from collections.abc import Sequence
from html import escape

from app.ui.form import ROTARY, recipe_groups
from app.ui.format import THIN, integer
from app.ui.strings import HEALING_TITLES, RECIPE_TITLES, TRAINABLE_WORDS
from core.further.spec import Measurements
from core.recipe import GRADED, OF_WEIGHTS
from core.spec import Healing, JobSpec
from core.widths import PRE_ROPE


def spec_list(spec: JobSpec) -> str:
    """Every choice that shaped the result."""
    return _listed(spec_pairs(spec))


def spec_pairs(spec: JobSpec) -> list[tuple[str, str]]:
    """Name and words of every choice that shaped the result."""
    model = ("Model", spec.model + (f" @ {spec.revision}" if spec.revision else ""))
    if spec.kind == "profile":
        read = f"{spec.calibration.text}, {integer(spec.calibration.tokens)} tokens"
        return [model, ("Kind", "profile"), ("Calibration", read), ("Device", spec.device)]
    if spec.evaluate is not None:
        return [model, ("Kind", "evaluation"), *_measurements(spec.evaluate), ("Device", spec.device)]
    pairs = [
        model,
        *(_healing(spec.heal) if spec.heal else ()),
        ("Budget", _budget(spec)),
        *_weights_budget(spec),
        ("Preset", spec.preset or "none"),
        *((RECIPE_TITLES.get(name, name), _said(name, getattr(spec.recipe, name))) for name in _asked(spec)),
        ("Calibration", _calibration(spec)),
        ("Evaluation", _evaluation(spec)),
        ("Weights", f"{spec.dtype}, on {spec.device}"),
    ]
    if spec.rope_pairs is not None:
        pairs.append(("Pairs that keep RoPE", "chosen one by one"))
    return pairs


def _healing(healing: Healing) -> list[tuple[str, str]]:
    """What every healing is asked, and whatever else is not as usual."""
    usual = Healing(source=healing.source)
    said = healing.model_dump(exclude={"source", "text", "tokens", "trainable", "learning_rate"})
    changed = {name: value for name, value in said.items() if value != getattr(usual, name)}
    return [
        ("Heals", healing.source),
        ("Learns from", f"{healing.text}, {integer(healing.tokens)} tokens"),
        ("What learns", TRAINABLE_WORDS[healing.trainable]),
        ("Learning rate", f"{healing.learning_rate:g}"),
        *(
            (HEALING_TITLES.get(name, name.replace("_", " ")), _said(name, one))
            for name, one in changed.items()
        ),
    ]


def _measurements(asked: Measurements) -> list[tuple[str, str]]:
    pairs = [("Conversions", ", ".join(asked.conversions) or "none")]
    if asked.texts and asked.contexts:
        sizes = ", ".join(integer(one) for one in asked.contexts)
        pairs.append(("Texts", f"{', '.join(asked.texts)}: {asked.windows} windows of {sizes} tokens"))
    if asked.retrieval:
        sizes = ", ".join(integer(one) for one in asked.retrieval_contexts)
        words = f"{', '.join(asked.retrieval)}: {asked.samples} questions of {sizes} tokens"
        pairs.append(("Retrieval", words))
    if asked.harness:
        pairs.append(("lm-eval", ", ".join(asked.harness)))
    return pairs


def _listed(pairs: Sequence[tuple[str, str]]) -> str:
    body = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in pairs)
    return f'<dl class="spec">{body}</dl>'


def _asked(spec: JobSpec) -> list[str]:
    """Fields of the recipe that shaped the result, in the order of the form."""
    recipe = spec.recipe
    idle: set[str] = set(OF_WEIGHTS) if spec.weights_keep is None else set()
    if recipe.layout == PRE_ROPE:
        idle |= ROTARY
    if recipe.rope_select != "uniform":
        idle.add("rope_select_start")
    if recipe.rope_mix == "none":
        idle.add("freqfold")
    return [name for _, names in recipe_groups() for name in names if name not in idle]


def _said(name: str, value: object) -> str:
    if name == "freqfold" and value == GRADED:
        return "the wider, the slower pairs turn"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _budget(spec: JobSpec) -> str:
    if spec.layer_ranks is not None:
        least, most = min(spec.layer_ranks), max(spec.layer_ranks)
        return f"ranks given layer by layer, {least} to {most}"
    if spec.kv_rank is None:
        return f"keep {(spec.keep or 0) * 100:g}{THIN}%"
    rotary = f"{spec.rope_dim} rotary dims and " if spec.rope_dim else ""
    return f"{rotary}a latent of {spec.kv_rank} per KV head"


def _weights_budget(spec: JobSpec) -> list[tuple[str, str]]:
    if spec.weights_keep is None:
        return []
    return [("Weights budget", f"keep {spec.weights_keep * 100:g}{THIN}% of the linear layers")]


def _calibration(spec: JobSpec) -> str:
    read = spec.calibration
    words = f"{read.text}, {integer(read.tokens)} tokens"
    if not spec.needs_fisher:
        return words
    return f"{words}, {integer(min(read.fisher_tokens, read.tokens))} of them backwards too"


def _evaluation(spec: JobSpec) -> str:
    if spec.evaluation is None:
        return "not measured"
    one = spec.evaluation
    return f"{one.text}, {one.windows} windows of {integer(one.context)} tokens"
