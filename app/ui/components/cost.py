# SPDX-License-Identifier: Apache-2.0
"""The card that answers while the slider moves: what the cache costs now and afterwards."""

import math

from app.services.estimate import Estimate
from app.services.widths import cached_words, mean_numbers
from app.ui.components.chips import source, term
from app.ui.components.sensitivity import sensitivity
from app.ui.format import (
    byte_unit,
    context,
    count,
    flops,
    guess,
    integer,
    percent,
    rough_duration,
    size,
    times,
)
from app.ui.strings import NOT_PREDICTED, NOT_PREDICTED_OF_WEIGHTS, NOT_PREDICTED_WEIGHED
from core.planning import Plan
from core.spec import JobSpec
from core.widths import PRE_ROPE

# beyond this a factor says no more than that nothing is left
_MOST_NATS = 20.0
_ABOUT = '<abbr title="exp(KL), an approximation: exact for text the original wrote itself">about</abbr>'


def cost_card(estimate: Estimate) -> str:
    """Numbers of the plan; says what is missing instead of showing a guess."""
    plan = estimate.plan
    if plan is None or plan.problems:
        return empty_card(_missing(estimate))
    unit = byte_unit(plan.kv_bytes_per_token_before)
    calculated = source("calculated")
    change = f"{times(plan.factor)} smaller" if plan.factor >= 1 else f"{times(1 / plan.factor)} larger"
    return f"""<section class="card"><h2>What it costs, now → after</h2>
<div class="headline"><span class="before">{size(plan.kv_bytes_per_token_before, unit)}</span>
<span class="arrow">→</span><span class="after">{size(plan.kv_bytes_per_token_after, unit)}</span>
<span class="factor">{change}</span></div>
<p class="caption">{term("KV cache", "kv")} per token {calculated}</p>
{_bars(plan)}
<dl class="rows">{_at_context(estimate)}{_widths(estimate, plan)}{_linears(plan)}{_weights(plan)}
{_wordy("Decode", _decode(plan))}{_flops(estimate)}{_quality(estimate)}{_takes(estimate)}</dl>
{sensitivity([layer.loss for layer in estimate.layers])}</section>
{_glance(estimate, plan, change)}"""


def empty_card(sentence: str) -> str:
    """The card without numbers."""
    return (
        f'<section class="card"><h2>What it costs, now → after</h2><p class="empty">{sentence}</p></section>'
    )


def _glance(estimate: Estimate, plan: Plan, change: str) -> str:
    """The answer in one line, for a narrow screen on which the card is below what is tuned."""
    found = estimate.prediction
    loss = f"<span>perplexity about {_factor(found.loss)}</span>" if found else ""
    words = f"<b>{size(plan.kv_bytes_per_token_after)}</b><span>{change}</span>"
    if plan.linears_before:
        words += f"<span>weights {_change(plan.linears_before, plan.linears_after)}</span>"
    words += loss
    return f'<div class="glance" aria-hidden="true">{words}</div>'


def _missing(estimate: Estimate) -> str:
    if estimate.facts is None:
        return "Choose a model that can be read: its configuration is all this needs."
    return "There is no plan for this combination yet. What to change is written beside the field."


def _bars(plan: Plan) -> str:
    share = plan.kv_bytes_per_token_after / plan.kv_bytes_per_token_before
    return (
        '<div class="bars" aria-hidden="true"><i class="before" style="width:100%"></i>'
        f'<i class="after" style="width:{min(1.0, share) * 100:.2f}%"></i></div>'
    )


def _at_context(estimate: Estimate) -> str:
    unit = byte_unit(estimate.cache_bytes_before)
    where = f"{context(estimate.context)} tokens × {estimate.batch}"
    return _row(
        f"Cache at {where}",
        size(estimate.cache_bytes_before, unit),
        size(estimate.cache_bytes_after, unit),
        source("calculated"),
    )


def _widths(estimate: Estimate, plan: Plan) -> str:
    before = estimate.facts.kv_numbers_per_layer if estimate.facts else 0
    numbers = _row("Numbers per token, layer", str(before), str(mean_numbers(plan)), source("calculated"))
    words = cached_words(plan, estimate.spec.recipe) if estimate.spec else ""
    return f"{numbers}<dt>{term('Cached per layer', 'cached')}</dt><dd>{words}{source('calculated')}</dd>"


def _linears(plan: Plan) -> str:
    """What the other budget leaves; nothing where there is none."""
    label = term("Linear layers, parameters", "weights_keep")
    return _parameters(label, plan.linears_before, plan.linears_after) if plan.linears_before else ""


def _weights(plan: Plan) -> str:
    return _parameters("Parameters", plan.parameters_before, plan.parameters_after)


def _parameters(label: str, before: int, after: int) -> str:
    note = f'<span class="chip">{_change(before, after)}</span>{source("calculated")}'
    return _row(label, count(before), count(after), note)


def _change(before: int, after: int) -> str:
    change = after / before - 1
    return f"{'+' if change > 0 else '−'}{percent(abs(change), 1)}"


def _decode(plan: Plan) -> str:
    if plan.layers[0].layout == PRE_ROPE:
        return "keys are rebuilt when read: slower at long context"
    return "reads the small cache as it is"


def _flops(estimate: Estimate) -> str:
    before, after = estimate.decode_flops_before, estimate.decode_flops_after
    label = f"per token at {context(estimate.context)}"
    return _row(label, flops(before), flops(after), source("calculated"))


def _quality(estimate: Estimate) -> str:
    found = estimate.prediction
    if found is None:
        return _wordy("Quality", _why_not_predicted(estimate.spec))
    span = f"{guess(found.low)} to {guess(found.high)}"
    factors = f"{_factor(found.low)} to {_factor(found.high)}".replace("×", "")
    return (
        f"<dt>{term('KL to the original', 'kl')}</dt><dd>{guess(found.loss)} nats ({span})"
        f"{source('predicted')}</dd>"
        f"<dt>{term('Perplexity', 'perplexity')}</dt><dd>{_ABOUT} {_factor(found.loss)} ({factors})"
        f"{source('predicted')}</dd>"
    )


def _why_not_predicted(spec: JobSpec | None) -> str:
    if spec is not None and spec.weights_keep is not None:
        return NOT_PREDICTED_OF_WEIGHTS
    return NOT_PREDICTED_WEIGHED if spec is not None and spec.recipe.key_weight != 1 else NOT_PREDICTED


def _factor(loss: float) -> str:
    """exp(KL): what perplexity is about multiplied by; two digits are all that is known of it."""
    factor = math.exp(min(loss, _MOST_NATS))
    return f"×{factor:.2f}" if factor < 2 else f"×{factor:.1f}" if factor < 10 else f"×{integer(factor)}"


def _takes(estimate: Estimate) -> str:
    """Never a guess: a first job has to be done here before the next can be foreseen."""
    if estimate.seconds is None:
        return _wordy("Takes", "known once a first job was done here")
    return f"<dt>Takes</dt><dd>about {rough_duration(estimate.seconds)}{source('estimated')}</dd>"


def _wordy(label: str, words: str) -> str:
    return f'<dt>{label}</dt><dd class="wordy">{words}</dd>'


def _row(label: str, before: str, after: str, note: str) -> str:
    return (
        f'<dt>{label}</dt><dd><span class="before">{before}</span><span class="arrow">→</span>'
        f'<span class="after">{after}</span>{note}</dd>'
    )
