# SPDX-License-Identifier: Apache-2.0
"""The result of `mla-workbench evaluate`: quality of a model, and of a conversion against its original."""

from pathlib import Path
from typing import Any

import torch

from core.calibrate.tokens import tokenize
from core.errors import ModelError
from core.evaluate.by_position import PositionTally
from core.evaluate.divergence import compare
from core.evaluate.kv_memory import formula_kv_bytes, measure_kv_bytes
from core.evaluate.load import is_converted, load_model
from core.evaluate.perplexity import OnWindow, cut_windows, perplexity


def evaluate(
    model_folder: Path,
    text: str,
    *,
    base_folder: Path | None,
    context: int,
    windows: int,
    on_window: OnWindow | None = None,
    device: str = "cpu",
    by_position: bool = False,
) -> dict[str, Any]:
    """Measure a model on `text`; a converted one is compared with the original in `base_folder`.

    The text is tokenised whole, without special tokens, by the model's own tokenizer. KV bytes are measured
    in the stored dtype. Everything else is computed in float32 on a CPU, where bfloat16 products are slower
    and noisier, and in the stored dtype on a GPU. Models are held in memory whole.

    With `by_position` the perplexities of both models are also given by position in the window.

    Raises TextError when the text is too short, before any weight is read.
    """
    token_ids = tokenize(model_folder, text)
    cut_windows(token_ids, context, windows)
    dtype = torch.float32 if device == "cpu" else None
    if not is_converted(model_folder):
        if by_position:
            raise ModelError(
                f"'{model_folder}' is no converted model: there is nothing to compare by position",
                hint="name a conversion; the answer holds its original's perplexities too",
                field="by_position",
            )
        model = load_model(model_folder, dtype=dtype, device=device)
        value, tokens = perplexity(model, token_ids, context, windows, on_window)
        return {"perplexity": value, "tokens": tokens}
    if base_folder is None:
        raise ModelError(
            f"'{model_folder}' is a converted model and its original is not known",
            hint="name the original model to compare with",
            field="model",
        )
    converted = load_model(model_folder, dtype=None, device=device)
    kv_bytes = {
        "formula": formula_kv_bytes(converted.config, converted.dtype),
        "measured": measure_kv_bytes(converted),
    }
    base = load_model(base_folder, dtype=dtype, device=device)
    converted = converted if dtype is None else converted.to(dtype)
    positions = PositionTally(context)
    found = compare(base, converted, token_ids, context, windows, on_window, positions.add)
    more = {"by_position": [bucket.as_json() for bucket in positions.buckets()]} if by_position else {}
    return {
        "perplexity": found.perplexity,
        "tokens": found.tokens,
        "perplexity_base": found.perplexity_base,
        "kl_to_base": found.kl_to_base,
        "top1_agreement": found.top1_agreement,
        "kv_bytes_per_token": kv_bytes,
        **more,
    }
