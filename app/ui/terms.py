# SPDX-License-Identifier: Apache-2.0
"""Every term the pages use, in one line each: the hover texts and the glossary say the same."""

from collections.abc import Mapping
from dataclasses import dataclass

_MHA2MLA = "MHA2MLA (arXiv 2502.14837), section "
_TRANSMLA = "TransMLA (arXiv 2502.07864), section "
_LATENTLLM = "LatentLLM (arXiv 2505.18413), section "
_DEEPSEEK = "DeepSeek-V2 (arXiv 2405.04434), section "
_ROFORMER = "RoFormer (arXiv 2104.09864), section "


@dataclass(frozen=True)
class Term:
    """What the glossary calls it, the line that explains it, and where it comes from, when from a paper."""

    name: str
    line: str
    paper: str = ""


# heading of the glossary -> key -> term; keys are what `chips.term` takes and what addresses end in
GLOSSARY: Mapping[str, Mapping[str, Term]] = {
    "The cache": {
        "kv": Term(
            "KV cache", "keys and values of every earlier token, kept so that they need not be computed again"
        ),
        "mha": Term(
            "MHA, GQA, MQA",
            "every query head has keys and values of its own, shares them with a group, or all share one",
            "GQA (arXiv 2305.13245), section 2",
        ),
        "mla": Term(
            "MLA",
            "multi-head latent attention: the cache holds one small latent from which keys and values follow",
            _DEEPSEEK + "2.1",
        ),
        "latent": Term(
            "latent",
            "the few numbers per token and layer that are cached instead of its keys and values",
            _DEEPSEEK + "2.1.2",
        ),
        "kv_lora_rank": Term(
            "kv_lora_rank",
            "how many numbers the latent of one layer has; the name is that of the configuration file",
            _DEEPSEEK + "2.1.2",
        ),
        "cached": Term(
            "cached per layer",
            "the latent stands in for keys and values; rotary dims are the part of a key that carries its "
            "position",
            _MHA2MLA + "3.1 and 3.2",
        ),
        "absorbed": Term(
            "absorbed",
            "a decode step works on the latent itself: the matrices that would rebuild keys and values are "
            "multiplied into those of queries and output",
            _DEEPSEEK + "2.1.2",
        ),
        "pre_rope": Term(
            "pre-rope layout",
            "the latent holds keys before they are rotated; they are rebuilt and rotated when read, so "
            "positions stay exact and a decode step takes longer",
        ),
        "keep": Term("keep", "the part of the cache bytes that stays; 31.25 % is 3.2 times smaller"),
    },
    "Positions": {
        "rope": Term(
            "RoPE",
            "rotary position embedding: pairs of numbers in queries and keys turn with the position, each "
            "pair at a speed of its own",
            _ROFORMER + "3.2",
        ),
        "rope_pair": Term(
            "RoPE pair, frequency",
            "two numbers of a head that turn together; the first pairs turn fast and see neighbours, the "
            "last ones slowly",
            _ROFORMER + "3.2.2",
        ),
        "rope_dims": Term(
            "rotary dims",
            "the numbers of a key that still turn with the position after the conversion, two per pair",
            _MHA2MLA + "3.1",
        ),
        "two_norm": Term(
            "2-norm contribution",
            "mean length of a pair in the queries times that in the keys: an upper bound of its part in the "
            "attention logits",
            _MHA2MLA + "3.1",
        ),
        "logit_damage": Term(
            "logit damage",
            "the logit energy that is lost when a pair stops turning, measured on text; pairs with the most "
            "keep their rotation",
        ),
        "mixing": Term(
            "head mixing (RoRoPE)",
            "KV heads are rotated into components, per frequency, so that few of them carry most; exact, as "
            "rotations commute",
            _TRANSMLA + "4",
        ),
        "freqfold": Term(
            "FreqFold",
            "neighbouring frequencies are treated as one, so that mixing can gather more of them",
            _TRANSMLA + "4",
        ),
        "derotate": Term(
            "expected rotation",
            "the constant that stands in for a rotation that was dropped; it makes up for its mean",
        ),
    },
    "Making it small": {
        "recipe": Term("recipe", "one choice for each stage of a conversion; a paper is a recipe"),
        "calibration": Term(
            "calibration", "running text through the original to see which directions its layers really use"
        ),
        "profile": Term(
            "profile",
            "a stored calibration, and what every rank and every rotary pair of each layer would cost; with "
            "it, losses are predicted in milliseconds",
        ),
        "rank": Term(
            "rank, low-rank",
            "a matrix that goes through few numbers; the latent's width is the rank of what makes keys and "
            "values",
            _MHA2MLA + "3.2",
        ),
        "spectrum": Term(
            "spectrum",
            "the loss that each further number of a layer's latent saves, largest first; a steep one "
            "compresses well",
        ),
        "energy": Term("cumulative energy", "the part of a spectrum's whole that the first numbers hold"),
        "sensitivity": Term(
            "sensitivity", "how much the whole model loses when this layer alone gets the same small latent"
        ),
        "covariance": Term(
            "root covariance",
            "factors are fitted to what keys and values are on real text, not to the weights",
            _LATENTLLM + "3",
        ),
        "fisher": Term(
            "Fisher",
            "mean squared gradient of the loss: tokens and channels count by what they mean to the "
            "predictions",
            "FWSVD (arXiv 2207.00112), section 3",
        ),
        "mean_bias": Term(
            "biases carry the mean",
            "what is cut off has a mean; a bias puts it back, which costs nothing in the cache",
            _LATENTLLM + "3",
        ),
        "refit": Term(
            "W_O refit",
            "the attention's output matrix is fitted anew, in closed form, to what the small cache gives",
        ),
        "allocate": Term(
            "allocation",
            "how the budget is spread over layers: the same for all, or more where it saves more loss",
            "LoRC (arXiv 2410.03111)",
        ),
        "weights_keep": Term(
            "weights budget",
            "the part that stays of the parameters of the linear layers: attention and MLP, without "
            "embeddings, norms and biases",
        ),
        "junction": Term(
            "junction",
            "how the two factors of a linear layer share what is free between them; as a block identity it "
            "spares r² numbers, in the file and at every token",
            _LATENTLLM + "3",
        ),
        "healing": Term(
            "healing",
            "fine-tuning after a conversion, which wins back quality; the published methods rely on it",
            _MHA2MLA + "3",
        ),
    },
    "Quality": {
        "perplexity": Term("perplexity", "how surprised the model is by real text; lower is better"),
        "ratio": Term(
            "perplexity ratio",
            "perplexity of the converted model over that of the original, on the same text; ×1 is no loss",
        ),
        "kl": Term("KL", "distance between the predictions of both models, in nats; 0 means the same"),
        "top1": Term("same next token (top-1)", "how often both models predict the same next token"),
        "layer_error": Term(
            "error of keys, of values",
            "how far they are off after the rank cut, as a fraction of their size, on the calibration text",
        ),
        "frontier": Term(
            "frontier",
            "the least loss that can be had at each size of the cache; a point left of the line or below it "
            "did better than predicted",
        ),
    },
    "Where a number comes from": {
        "measured": Term("measured", "counted on real tensors or timed in this job"),
        "calculated": Term("calculated", "follows exactly from the model's shape and the plan"),
        "predicted": Term("predicted", "read off a profile, with the range its fit leaves; not measured"),
        "estimated": Term("estimated", "scaled from the last job that was done here, by the amount of work"),
        "paper": Term("paper", "a figure the paper reports"),
    },
}

_BY_KEY: Mapping[str, Term] = {key: term for part in GLOSSARY.values() for key, term in part.items()}

# key -> what hovering says
TERMS: Mapping[str, str] = {
    key: f"{term.line} ({term.paper})" if term.paper else term.line for key, term in _BY_KEY.items()
}
