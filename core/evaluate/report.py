# SPDX-License-Identifier: Apache-2.0
"""The result of `mla-workbench evaluate`: quality of a model, and of a conversion against its original."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core.calibrate.tokens import tokenize
from core.errors import ModelError, TextError
from core.evaluate.by_position import PositionTally
from core.evaluate.divergence import compare
from core.evaluate.kv_memory import formula_kv_bytes, measure_kv_bytes
from core.evaluate.load import is_converted, load_model
from core.evaluate.perplexity import OnWindow, cut_windows, perplexity
from core.evaluate.reach import check_context
from core.evaluate.scores import TokenScores
from core.evaluate.window_tally import WindowTally


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

    As `evaluate_texts`, with the figures of the one text beside the bytes.
    """
    found = evaluate_texts(
        model_folder,
        {"text": text},
        base_folder=base_folder,
        context=context,
        windows=windows,
        on_window=on_window,
        device=device,
        by_position=by_position,
    )
    [figures] = found.pop("texts").values()
    return {**figures, **found}


def evaluate_texts(
    model_folder: Path,
    texts: Mapping[str, str],
    *,
    base_folder: Path | None,
    context: int,
    windows: int,
    on_window: OnWindow | None = None,
    device: str = "cpu",
    by_position: bool = False,
) -> dict[str, Any]:
    """Measure a model on every one of `texts` (name -> content); models are loaded once.

    A text is tokenised whole, without special tokens, by the model's own tokenizer. KV bytes are measured
    in the stored dtype. Everything else is computed in float32 on a CPU, where bfloat16 products are slower
    and noisier, and in the stored dtype on a GPU. Models are held in memory whole.

    For a converted model `paired` holds 95 % intervals over windows and the p-value of equal loss; null of
    one window. With `by_position` figures are also given by position in the window.

    Raises TextError when a text is too short, ModelError when a context is beyond learned positions, both
    before any weight is read.
    """
    ids = _checked(model_folder, texts, context, windows)
    dtype = torch.float32 if device == "cpu" else None
    if not is_converted(model_folder):
        if by_position:
            raise ModelError(
                f"'{model_folder}' is no converted model: there is nothing to compare by position",
                hint="name a conversion; the answer holds its original's perplexities too",
                field="by_position",
            )
        model = load_model(model_folder, dtype=dtype, device=device)
        alone = {name: perplexity(model, one, context, windows, on_window) for name, one in ids.items()}
        return {
            "texts": {name: {"perplexity": value, "tokens": count} for name, (value, count) in alone.items()}
        }
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
    figures = {
        name: compared(base, converted, one, context, windows, on_window, by_position=by_position)
        for name, one in ids.items()
    }
    return {"texts": figures, "kv_bytes_per_token": kv_bytes}


def compared(
    base: Any,
    converted: Any,
    token_ids: Tensor,
    context: int,
    windows: int,
    on_window: OnWindow | None = None,
    *,
    by_position: bool,
) -> dict[str, Any]:
    """The figures of one text, as JSON."""
    tally, positions = WindowTally(), PositionTally(context)
    found = compare(base, converted, token_ids, context, windows, on_window, _both(tally.add, positions.add))
    paired = tally.figures()
    more = {"by_position": [bucket.as_json() for bucket in positions.buckets()]} if by_position else {}
    return {
        "perplexity": found.perplexity,
        "tokens": found.tokens,
        "perplexity_base": found.perplexity_base,
        "kl_to_base": found.kl_to_base,
        "top1_agreement": found.top1_agreement,
        "paired": paired.as_json() if paired else None,
        **more,
    }


def _both(
    first: Callable[[TokenScores], None], second: Callable[[TokenScores], None]
) -> Callable[[TokenScores], None]:
    def tell(scores: TokenScores) -> None:
        first(scores)
        second(scores)

    return tell


def _checked(folder: Path, texts: Mapping[str, str], context: int, windows: int) -> dict[str, Tensor]:
    """The texts as tokens; the error names the text when there are several."""
    check_context(folder, context)
    ids = {name: tokenize(folder, text) for name, text in texts.items()}
    for name, one in ids.items():
        try:
            cut_windows(one, context, windows)
        except TextError as error:
            if len(ids) == 1:
                raise
            raise TextError(f"{name}: {error.message}", hint=error.hint, field=error.field) from error
    return ids
