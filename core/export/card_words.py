# SPDX-License-Identifier: Apache-2.0
"""What a model card says of the choices that were made, and of what the model cannot be trusted with."""

from core.kv_budget import EXACT_TOKENS
from core.planning import Plan
from core.recipe import OF_WEIGHTS
from core.spec import JobSpec
from core.stages import STAGES
from core.widths import PRE_ROPE


def stage_table(spec: JobSpec) -> str:
    """Every stage with its choice and what that means; those of the weights only when they are converted."""
    rows = ["| stage | choice | meaning |", "|---|---|---|"]
    for name, stage in STAGES.items():
        if name in OF_WEIGHTS and spec.weights_keep is None:
            continue
        choice = getattr(spec.recipe, name)
        # a bar would end the cell
        meaning = stage.ready[choice].replace("|", "\\|")
        rows.append(f"| {name} | `{choice}` | {meaning} |")
    return "\n".join(rows)


def limits(spec: JobSpec, plan: Plan, is_measured: bool) -> str:
    """One line for each thing to know before using it."""
    lines = []
    if is_measured and spec.evaluation is not None:
        lines.append(
            f"The quality figures hold for {spec.evaluation.text} at {spec.evaluation.context} tokens. What "
            "stands in no table of this card, other texts, languages and longer contexts, was not measured, "
            "and usually loses more."
        )
    else:
        lines.append("Measure it on your own text before you use it: nothing is known of its quality.")
    rebuilt = sum(layer.layout == PRE_ROPE for layer in plan.layers)
    if rebuilt:
        lines.append(
            f"{rebuilt} of {len(plan.layers)} layers cache one latent from before the rotation (pre-rope): "
            "positions stay exact, and keys are rebuilt when read, which takes time at long contexts."
        )
    if rebuilt < len(plan.layers):
        lines.append(
            "Rotary pairs that lost their rotation lost positions with it. What replaces them was fitted on "
            f"windows of {spec.calibration.context} tokens: try long contexts before you rely on them."
        )
    bits = min(layer.latent_bits for layer in plan.layers)
    if bits < 16:
        lines.append(
            f"The cache holds {bits} bits a number, and one byte more per token and layer. On top of those "
            f"bytes the {EXACT_TOKENS} first and newest tokens of a sequence stay exact. `generate` does so "
            "by itself; a cache object that you pass keeps the dtype. Tokens attend exactly to those of the "
            "same pass, so a prompt read at once loses nothing yet."
        )
    lines += [
        "It knows, and gets wrong, what the original does, with the errors of the compression on top.",
        "It runs in `transformers` with the code in this folder; other runtimes do not know it.",
    ]
    return "\n".join(f"- {line}" for line in lines)
