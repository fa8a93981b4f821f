# SPDX-License-Identifier: Apache-2.0
"""Words the page uses more than once; the lines that explain terms are in app/ui/terms.py."""

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
    State.PAUSING: "pausing",
    State.PAUSED: "paused",
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
    State.PAUSING: "quiet",
    State.PAUSED: "warn",
    State.INTERRUPTED: "warn",
    State.FAILED: "bad",
}

STAGE_WORDS: Mapping[str, str] = {
    "preparing": "prepare",
    "calibrating": "calibrate",
    "converting": "convert",
    "teaching": "teach",
    "healing": "heal",
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
    "linear_input": "Input metric of linear layers",
    "linear_form": "Fitted together",
    "junction": "Junction",
    "linear_allocate": "Weights over layers",
}

# what is not a stage but belongs to one
RECIPE_TITLES: Mapping[str, str] = {
    **STAGE_TITLES,
    "rope_select_start": "First pair",
    "freqfold": "FreqFold",
    "key_weight": "Weight of keys beside values",
    "mean_bias": "Biases carry the mean",
    "refit_output": "W_O is fitted anew",
    "latent_bits": "Bits of the cache",
    "sparse_share": "Share of a sparse residual",
    "factor_bits": "Bits of the factors",
}

# in the words of somebody who has not read the papers; a preset without words here shows its own
PRESET_WORDS: Mapping[str, tuple[str, str]] = {
    "quality": ("Best quality", "Loses least for its size. Reading a long context takes longer."),
    "fast": ("Fast decode", "Reads the small cache as it is, at full speed. Loses more."),
    "latentllm": ("Smaller model", "Half the cache and a fifth of the weights gone. Loses more."),
    "transmla": ("TransMLA", "As published, before its fine-tuning."),
    "mha2mla": ("MHA2MLA", "As published, before its fine-tuning: poor until then."),
}

# label and info of the box that takes rope_dim, by what its number counts
ROPE_DIM_WORDS: Mapping[str, tuple[str, str]] = {
    "per head": ("Rotary dims per KV head", "even; empty: from the slider"),
    "shared": ("Rotary dims, shared by all heads", "even; empty: from the slider"),
    "none": ("Rotary dims", "none in pre-rope: all positions stay exact"),
}

NO_JOBS = "Nothing has been converted yet. The demo takes a few minutes and needs no download."
NO_MATCH = "No job matches this filter."
NO_WORKER = "no worker"
NOTHING_TO_SELECT = "No effect in the pre-rope layout: every pair keeps its rotation."
WEIGHTS_INFO = "the linear layers become factors: fewer bytes to load, fewer FLOPs in them at every token"
NO_WEIGHTS = "No effect while the weights stay whole: tick 'Shrink the weights, too' above."
BUDGET_OVERRIDDEN = "The widths are set under Tune: the slider is not used."


def preset_title(name: str) -> str:
    """What the page calls a preset; a name it has no words for is shown as it is."""
    return PRESET_WORDS[name][0] if name in PRESET_WORDS else name


# Compare
CHOOSE_JOBS = "Tick two or more to see what was asked differently, and what came of it."
NOTHING_TO_COMPARE = (
    "Nothing has been converted yet: once two conversions are done, they can be held against each other here."
)
NOT_THE_SAME_TEXT = "Not all were measured on the same text: their quality is shown, not ranked."

# Chat
CHAT_EXAMPLES = (
    "Explain why the sky is blue, in simple words.",
    "Write a short story about a lighthouse keeper and a whale.",
    "Give me three tips for learning to cook.",
)
CHAT_INTRO = "The same prompt, the same seed, side by side: what the smaller cache changes, in words."
CHAT_NOTHING_CONVERTED = (
    "Nothing has been converted yet. You can talk to the original now; once a conversion is done, its "
    "answers stand beside it here."
)
CHAT_READY = (
    "Ask all of them the same thing. Answers are written by a worker; you can close this page meanwhile."
)

# New: tuning
# the spectra of a profile are those of keys and values weighed alike; every other weight has its own
NOT_PREDICTED_WEIGHED = "measured by the job; predicted only where the weight of keys beside values is 1"
NOT_PREDICTED = "measured by the job; predicted before it once the model has a profile that knows the recipe"
NOT_PREDICTED_OF_WEIGHTS = (
    "measured by the job: a profile predicts what a smaller cache loses, not what smaller weights do"
)

# Models
NO_POINTS = "No finished job measured its quality yet: the first conversion is the first point."
NO_JOBS_OF_MODEL = "Nothing was made of this model yet: New converts it."
NO_PROFILE = (
    "No profile yet. It reads the model once; from then on losses are predicted while a slider moves, and "
    "conversions skip their calibration."
)
PAIRS_TOGGLE = "Outlined pairs keep their rotation. Click one to drop it, or another to keep it."
PAIRS_EXACT = "Every pair keeps its rotation in this layout: there is nothing to choose, only to see."
PAIRS_UNKNOWN = "What each rotary pair contributes is known once the model has a profile of this recipe."
NO_PAIRS = "Positions are learned: this model has no rotary pairs, and none of its cache goes to them."
RANKS_HELP = (
    "Drag a bar, or use the arrow keys. What is set by hand is locked; dashes are the slider's ranks."
)
RANKS_HELD = "Ranks set by hand under Tune stay ({} of them); the rest follows the slider."
_FORESEEN = (
    "As the profile foresees it; the job compares this spread with an even one and takes what loses less."
)
# by how an estimate says that ranks are spread over the layers
SPREAD: Mapping[str, str] = {
    "open": "Shown alike: how ranks are spread over the layers is decided by the job, after calibration.",
    "loss-aware": _FORESEEN,
    "energy": _FORESEEN,
    "condition-number": _FORESEEN,
}

# clones and uploads
CLONED_ALIKE = "nothing differs yet."
UNSEEN = "Set by a recipe, and only to be seen in its text:"
UPLOAD_HINT = (
    '<p class="caption">UTF-8 text, kept on this server until it is <a href="/jobs#disk">deleted</a>.</p>'
)
# where a model was found
WHERE_WORDS: Mapping[str, str] = {"folder": "folder", "cache": "downloaded", "hub": "Hub"}

# healing
TRAINABLE_WORDS: Mapping[str, str] = {
    "attention": "attention: latent factors, queries, output",
    "all": "every weight",
    "lora": "adapters on the attention (LoRA)",
}
# a field of Healing that its name does not make plain
HEALING_TITLES: Mapping[str, str] = {
    "learning_rate": "Learning rate",
    "lora_rank": "LoRA rank",
    "clip": "Gradient clip",
    "top_k": "Top k of the teacher",
    "held_out": "Windows held back",
    "repeat": "Repeat the text",
    "accumulate": "Accumulate",
    "target_kl": "Target KL",
    "checkpoint_seconds": "Seconds between checkpoints",
    "checkpoint_activations": "Compute activations again",
}
HEALING_ABOUT = (
    "The original teaches the converted model: after every token it compares what both expect next, and the "
    "converted model learns to agree. The cache stays as small as it is."
)

# evaluating further
RETRIEVAL_WORDS: Mapping[str, str] = {
    "single-noise": "one number in repeated noise",
    "single-essay": "one number in an essay",
    "multikey": "one of four numbers",
    "multikey-needles": "one among hundreds of numbers",
    "multivalue": "four numbers of one name",
    "multiquery": "four numbers of four names",
    "variable-tracking": "chains of variables",
    "common-words": "the most common words",
}
MEASUREMENT_TITLES: Mapping[str, str] = {
    "contexts": "Tokens per window",
    "windows": "Windows",
    "retrieval_contexts": "Tokens per question",
    "samples": "Questions",
    "seed": "Seed",
    "harness": "Tasks of lm-eval",
    "harness_limit": "Questions of lm-eval",
    "harness_folder": "Folder of tasks",
}
EVALUATION_ABOUT = (
    "How good is it on other texts, far from the start, and at finding what stands far back? Measured on the "
    "original and the conversions alike, with intervals and a paired test."
)
NO_HARNESS = (
    "Tasks of lm-eval (the paper's commonsense ones, LongBench) need the extra: "
    "<code>pip install 'mla-workbench[eval]'</code>, then start the workbench again."
)

# the report
REPORT_ABOUT = (
    "What is known of this conversion and how it is known, with sample sizes and 95 % intervals; what is not "
    "known stands in a section of its own. Text and tables are made from the record and conversion.json."
)
