# SPDX-License-Identifier: Apache-2.0
"""The measuring stage of a conversion: original and converted model on held-out text."""

from collections.abc import Iterator
from pathlib import Path

import psutil
import torch

from core.calibrate.text import read_text
from core.calibrate.tokens import tokenize
from core.evaluate import Comparison, PairedFigures, WindowTally, compare, load_model
from core.events import Cancel, Log, Progress, Sink
from core.spec import Evaluation
from core.weights.index import read_index

_FLOAT32 = 4


def measure(
    base: Path, converted: Path, evaluation: Evaluation, device: torch.device, sink: Sink, cancel: Cancel
) -> Iterator[tuple[str, float, str]]:
    """Yield (name, value, unit) of every quality figure.

    Both models are held in float32 at once; when they do not fit, nothing is measured and the log says so.
    """
    needed = 2 * _FLOAT32 * sum(info.numbers for info in read_index(base).values())
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    if needed > 0.9 * free:
        memory = f"it needs {needed / 1e9:.0f} GB of memory, {free / 1e9:.0f} GB are free"
        sink.emit(Log(level="warning", message=f"quality was not measured: {memory}"))
        return
    try:
        found, paired = _compare(base, converted, evaluation, device, sink, cancel)
    except (torch.OutOfMemoryError, MemoryError):
        # the conversion is verified by now: hours of work are not thrown away for a figure
        sink.emit(Log(level="warning", message="quality was not measured: the memory ran out"))
        return
    yield "perplexity_base", found.perplexity_base, ""
    yield "perplexity", found.perplexity, ""
    yield "perplexity_ratio", found.perplexity / found.perplexity_base, "ratio"
    yield "kl_to_base", found.kl_to_base, "nats"
    yield "top1_agreement", found.top1_agreement, "fraction"
    yield "evaluation_tokens", float(found.tokens), "tokens"
    yield "evaluation_windows", float(evaluation.windows), "windows"
    if paired is None:
        return
    for name, unit in (("perplexity_ratio", "ratio"), ("kl_to_base", "nats"), ("top1_agreement", "fraction")):
        interval = getattr(paired, name)
        yield f"{name}_low", interval.low, unit
        yield f"{name}_high", interval.high, unit
    yield "p_value", paired.p_value, ""


def _compare(
    base: Path, converted: Path, evaluation: Evaluation, device: torch.device, sink: Sink, cancel: Cancel
) -> tuple[Comparison, PairedFigures | None]:
    """Both models on the same windows, and how far the figures can be trusted."""
    tally = WindowTally()

    def on_window(done: int, total: int) -> None:
        sink.emit(Progress(stage="measuring", done=done, total=total, message=f"window {done} of {total}"))
        cancel.check()

    found = compare(
        load_model(base, dtype=torch.float32, device=device),
        load_model(converted, dtype=torch.float32, device=device),
        tokenize(base, read_text(evaluation.text)),
        context=evaluation.context,
        windows=evaluation.windows,
        on_window=on_window,
        on_scores=tally.add,
    )
    return found, tally.figures()
