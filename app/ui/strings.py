# SPDX-License-Identifier: Apache-2.0
"""Words the page uses more than once, and the one-line explanations behind the terms."""

from collections.abc import Mapping

from core.store.views import State

PRODUCT = "mla-workbench"

STATE_WORDS: Mapping[State, str] = {
    State.QUEUED: "queued",
    State.RUNNING: "running",
    State.VERIFYING: "verifying",
    State.DONE: "done",
    State.CANCELLING: "cancelling",
    State.CANCELLED: "cancelled",
    State.INTERRUPTED: "interrupted",
    State.FAILED: "failed",
}

# colour class of a state's badge
STATE_TONES: Mapping[State, str] = {
    State.QUEUED: "quiet",
    State.RUNNING: "busy",
    State.VERIFYING: "busy",
    State.DONE: "good",
    State.CANCELLING: "quiet",
    State.CANCELLED: "quiet",
    State.INTERRUPTED: "warn",
    State.FAILED: "bad",
}

STAGE_WORDS: Mapping[str, str] = {
    "preparing": "prepare",
    "calibrating": "calibrate",
    "converting": "convert",
    "verifying": "verify",
    "measuring": "measure",
}

STAGE_TITLES: Mapping[str, str] = {
    "rope_select": "Rotary pairs that stay",
    "rope_mix": "Head mixing",
    "rope_derotate": "Dropped rotations",
    "factor_input": "Input metric",
    "factor_output": "Output metric",
    "factor_form": "Factorised together",
    "allocate": "Budget over layers",
    "layout": "Cache layout",
}

TERMS: Mapping[str, str] = {
    "latent": "the short vector that is cached instead of keys and values (MHA2MLA, section 3.2)",
    "rope": "rotary dims are the part of a key that carries its position (MHA2MLA, section 3.1)",
    "kv": "keys and values of every earlier token, kept so that they need not be computed again",
    "perplexity": "how surprised the model is by real text; lower is better",
    "kl": "distance between the predictions of both models, in nats; 0 means the same",
    "top1": "how often both models predict the same next token",
    "measured": "counted on real tensors or timed in this job",
    "calculated": "follows exactly from the model's shape and the plan",
    "predicted": "an estimate",
    "paper": "a figure the paper reports",
}

NO_JOBS = "Nothing has been converted yet. The demo takes a few minutes and needs no download."
NO_MATCH = "No job matches this filter."
NO_WORKER = "no worker"
BUDGET_OVERRIDDEN = "Rope dims and latent size are set under Tune: the slider is not used."
