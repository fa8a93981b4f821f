# SPDX-License-Identifier: Apache-2.0
"""What a healing takes of memory and disk, calculated before it starts."""

from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from core.errors import ModelError
from core.heal.cache import cache_bytes
from core.heal.divergence import ROWS
from core.heal.spec import Healing
from core.heal.trainable import choose_trainable
from core.kv_budget import DTYPE_BYTES
from core.modeling import MLAConfig, class_of
from core.weights.index import read_index

_FLOAT32 = 4
# a decoder layer keeps about so many numbers per token for the backward pass: of its width (norms, residuals,
# queries, keys, values, heads) and of its MLP's
_WIDTHS_KEPT, _INNER_KEPT = 16, 5
# weights in the making, gradient and two averages of AdamW
_LEARNING_BYTES = 3 * _FLOAT32
# blocks of logits that exist at once: in two dtypes, their log-softmax and their gradient
_LOGITS_KEPT = 5


@dataclass(frozen=True)
class Sizes:
    """Numbers of the converted model, how many of them learn, and names of those."""

    all: int
    learning: int
    names: frozenset[str]


def sizes_of(config: MLAConfig, healing: Healing) -> Sizes:
    """Counted on the meta device; raises ModelError when nothing can learn."""
    with torch.device("meta"):
        model = class_of(config)(config)
    total = sum(one.numel() for one in model.parameters())
    found = choose_trainable(model, healing)
    plain = (name.split(".parametrizations.") for name in found)
    names = frozenset(parts[0] + ".weight" if len(parts) > 1 else parts[0] for parts in plain)
    return Sizes(total, sum(one.numel() for one in found.values()), names)


def check_memory(
    healing: Healing, config: MLAConfig, sizes: Sizes, teacher: Path, device: torch.device
) -> None:
    """Raise ModelError when student, optimiser and activations do not fit the free memory."""
    teacher_bytes = _FLOAT32 * sum(info.numbers for info in read_index(teacher).values())
    student_bytes = _FLOAT32 * sizes.all + _LEARNING_BYTES * sizes.learning + _activations(healing, config)
    # with a cache the teacher is gone before the student is loaded
    together = healing.runs_teacher
    needed = student_bytes + teacher_bytes if together else max(student_bytes, teacher_bytes)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    if needed > free:
        smaller = [] if healing.checkpoint_activations else ["checkpoint_activations"]
        smaller += ["fewer windows, with accumulate for it"] if healing.windows > 1 else []
        smaller += ["trainable lora"] if healing.trainable != "lora" else []
        raise ModelError(
            f"healing takes about {needed / 1e9:,.1f} GB of memory, {free / 1e9:,.1f} GB are free",
            hint=f"it gets smaller by {', '.join(smaller) or 'a shorter context'}; or use a larger machine",
            field="heal",
        )


def _activations(healing: Healing, config: MLAConfig) -> int:
    """Bytes kept for the backward pass, and the blocks of logits."""
    text = config.get_text_config(decoder=True)
    inner = getattr(text, "intermediate_size", None) or 4 * config.hidden_size
    layer = _WIDTHS_KEPT * config.hidden_size + _INNER_KEPT * inner
    layers = config.num_hidden_layers
    kept = layers * config.hidden_size + layer if healing.checkpoint_activations else layers * layer
    tokens = healing.windows * healing.context
    return int(_FLOAT32 * (tokens * kept + _LOGITS_KEPT * ROWS * text.vocab_size))


def disk_bytes(healing: Healing, sizes: Sizes, source: Path, missing: int) -> int:
    """Of the teacher's cache for `missing` windows, checkpoints (an old and a new one), and the result."""
    weights = sum(
        info.numbers * DTYPE_BYTES.get(info.dtype, _FLOAT32) for info in read_index(source).values()
    )
    learning = _FLOAT32 * sizes.learning
    cache = cache_bytes(missing, healing.context, healing.top_k) if healing.top_k else 0
    return cache + 2 * 3 * learning + 2 * learning + weights + 20_000_000
