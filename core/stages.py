# SPDX-License-Identifier: Apache-2.0
"""The stages of a recipe and the cache layout: every published choice.

A paper is a composition of choices. What is not known is refused by name, so nothing is ever silently
ignored.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from core.errors import SpecError


@dataclass(frozen=True)
class Stage:
    """One question of a conversion. `ready` maps a choice to the line a user reads about it."""

    question: str
    ready: Mapping[str, str]


STAGES: Mapping[str, Stage] = {
    "rope_select": Stage(
        "Which rotary pairs keep RoPE?",
        {
            "2-norm": "the largest mean ‖q‖ x mean ‖k‖ on real text, per KV head (MHA2MLA, section 3.1)",
            "high": "the fastest rotations (MHA2MLA, section 3.1)",
            "low": "the slowest rotations (MHA2MLA, section 3.1)",
            "uniform": "evenly spaced pairs, from a start offset (MHA2MLA, section 3.1)",
            "logit-damage": "those whose rotation carries the most logit energy, wherever they are",
        },
    ),
    "rope_mix": Stage(
        "Are KV heads mixed, per frequency, before selecting?",
        {
            "none": "heads stay as they are, each keeps pairs of its own (MHA2MLA)",
            "roro": "real rotations that gather the keys' energy, shared by all heads (TransMLA, RoRoPE)",
            "complex": "complex mixing that gathers the logits' energy, shared by all heads",
        },
    ),
    "rope_derotate": Stage(
        "What replaces the rotation of a dropped pair?",
        {
            "identity": "nothing: the pair loses its position information (MHA2MLA)",
            "expected": "the constant that comes closest to the rotation in the loss, per head and pair",
        },
    ),
    "factor_input": Stage(
        "Which metric on the inputs does the factorisation minimise?",
        {
            "identity": "the weights themselves, no activations (MHA2MLA)",
            "diag-hessian": "diagonal of the inverse Hessian (OBS, SparseGPT)",
            "diag-l1": "mean size of each input (AWQ, ASVD)",
            "diag-l2": "root mean square of each input (Wanda)",
            "covariance": "the covariance of the inputs (CorDA)",
            "root-covariance": "the squared error of keys and values on the text (LatentLLM, TransMLA)",
            "root-fisher": "the same, each token weighted by what its keys and values mean to the loss",
        },
    ),
    "factor_output": Stage(
        "Which metric on the outputs does the factorisation minimise?",
        {
            "identity": "every key and value channel counts the same (MHA2MLA)",
            "balanced": "keys scaled to the size of the values (TransMLA, BKV)",
            "attention-aware": "keys by what queries see of them, values by what W_O lets through",
            "fisher": "channels by what they mean to the loss (second moments of its gradients)",
        },
    ),
    "factor_form": Stage(
        "What is factorised together?",
        {
            "joint": "one SVD of all non-rotary keys and values (MHA2MLA, SVD_joint)",
            "split": "keys and values each get their own SVD, half the latent each (MHA2MLA, SVD_split)",
            "joint-qk-vo": "keys for the scores, values for the output, whatever factor_output says; "
            "half the latent each (LatentLLM)",
        },
    ),
    "allocate": Stage(
        "How is the byte budget spread over layers?",
        {
            "uniform": "every layer gets the same",
            "energy": "every layer keeps the same share of its energy, if held-back text agrees",
            "condition-number": "wider where errors grow on the way out (LoRC), if held-back text agrees",
            "loss-aware": "every number where it saves the most predicted loss, if held-back text agrees",
        },
    ),
    "layout": Stage(
        "What does the cache hold?",
        {
            "latent+rope": "one latent and rotated keys; decode reads only these (absorbed): fast",
            "pre-rope": "one latent, keys rebuilt and rotated when read: exact positions, slower decode",
        },
    ),
    "linear_input": Stage(
        "In which metric on their inputs are the linear layers factored? (weights_keep)",
        {
            "identity": "the weights themselves, no activations",
            "diag-hessian": "diagonal of the inverse Hessian (OBS, SparseGPT)",
            "diag-l1": "mean size of each input (AWQ, ASVD)",
            "diag-l2": "root mean square of each input (Wanda)",
            "covariance": "the covariance of the inputs (CorDA)",
            "root-covariance": "the squared error of the outputs on the text (LatentLLM)",
        },
    ),
    "linear_form": Stage(
        "Is a linear layer factored for itself? (weights_keep)",
        {
            "local": "each one for itself, for its own outputs",
            "joint": "queries for the logits they make with the converted keys, channels of the others by "
            "their loss gradients; with refit_output the MLP for what the whole one gives (after LatentLLM)",
        },
    ),
    "junction": Stage(
        "Where does a factored layer keep its singular values? (weights_keep)",
        {
            "left": "in the up factor",
            "right": "in the down factor",
            "symmetric": "half in each",
            "block-identity": "in neither: a block of the down factor is an identity, r² numbers less",
        },
    ),
    "linear_allocate": Stage(
        "How is the budget of weights spread? (weights_keep)",
        {
            "uniform": "every linear layer keeps the same share",
            "loss-aware": "where it saves the most predicted loss, if held-back text agrees",
        },
    ),
}


def check_choice(stage: str, choice: str) -> str:
    """Return `choice` if `stage` can run it, else raise SpecError naming what can be chosen."""
    known = STAGES[stage]
    if choice in known.ready:
        return choice
    raise SpecError(
        f"{stage}: '{choice}' is not a known choice",
        hint=f"choose one of: {', '.join(known.ready)}",
        field=f"recipe.{stage}",
    )
