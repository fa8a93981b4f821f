# SPDX-License-Identifier: Apache-2.0
"""What the command line prints: people read stderr and tables, programs read one JSON object on stdout."""

import json
import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import typer

from app.services.widths import linear_words
from core.decode_cost import decode_flops
from core.errors import Cancelled, WorkbenchError
from core.events import Event
from core.facts import ModelFacts
from core.planning import Plan


class TerminalSink:
    """Progress on stderr, one updating line per stage on a terminal; metrics and figures are kept."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}
        self._is_terminal = sys.stderr.isatty()

    def emit(self, event: Event) -> None:
        if event.kind == "metric":
            self.metrics[event.name] = event.value
        elif event.kind == "stage":
            self._line(f"{event.stage} …")
        elif event.kind == "log":
            self._line(f"{event.level}: {event.message}" if event.level != "info" else event.message)
        elif event.kind == "progress" and self._is_terminal:
            end = "\n" if event.done == event.total else ""
            print(
                f"\r\033[K  {event.done}/{event.total} {event.message}", end=end, file=sys.stderr, flush=True
            )

    def _line(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


def show(value: Any, as_json: bool, lines: list[str]) -> None:
    """Print `value` as one JSON object, in which an infinite number is null, or `lines` for people."""
    print(json.dumps(_finite(value), indent=2, allow_nan=False) if as_json else "\n".join(lines))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def reported(as_json: bool) -> Iterator[None]:
    """Turn errors a user can act on into a message and exit code 1; Ctrl-C and cancel into 130."""
    try:
        yield
    except WorkbenchError as error:
        fail(error, as_json)
    except (Cancelled, KeyboardInterrupt):
        print("stopped; run the same command again to continue", file=sys.stderr)
        raise typer.Exit(130) from None


def fail(error: WorkbenchError, as_json: bool) -> NoReturn:
    """Print the error, its hint and its field, and leave with exit code 1."""
    print(f"error: {error.message}" + (f"\n  fix: {error.hint}" if error.hint else ""), file=sys.stderr)
    if as_json:
        print(json.dumps({"error": error.message, "hint": error.hint, "field": error.field}))
    raise typer.Exit(1)


def bytes_text(value: float) -> str:
    """1234567 -> "1.23 MB"."""
    for unit in ("B", "KB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.2f} {unit}"
        value /= 1000
    return f"{value:.2f} TB"


def conversion_lines(out: Path, metrics: Mapping[str, float]) -> list[str]:
    """What came out of a conversion, for a terminal."""
    before, after = metrics["kv_bytes_per_token_before"], metrics["kv_bytes_per_token_measured"]
    lines = [
        f"{out}: {before / after:.2f}x smaller KV cache, "
        f"{before:,.0f} -> {after:,.0f} bytes per token (measured)"
    ]
    if "perplexity_ratio" in metrics:
        lines.append(
            f"perplexity x{metrics['perplexity_ratio']:.3g}, KL {metrics['kl_to_base']:.3f} nats, "
            f"same top token {100 * metrics['top1_agreement']:.1f} %"
        )
    if "linear_parameters_after" in metrics:
        whole, left = metrics["linear_parameters_before"], metrics["linear_parameters_after"]
        lines.append(
            f"linear layers: {whole:,.0f} -> {left:,.0f} parameters ({100 * (left / whole - 1):.1f} %)"
        )
    if "decode_flops_after" in metrics:
        lines.append(
            "decoding a token: "
            + decode_words(
                metrics["decode_flops_before"], metrics["decode_flops_after"], metrics["decode_flops_context"]
            )
        )
    if "calibration_images" in metrics:
        lines.append(
            f"calibrated on {metrics['calibration_images']:,.0f} images "
            f"({metrics['calibration_image_tokens']:,.0f} tokens) beside text"
        )
    memory = bytes_text(metrics["peak_memory_bytes"])
    return [*lines, f"{metrics['seconds']:.0f} s, peak memory {memory}"]


def weight_lines(plan: Plan, facts: ModelFacts, context: int) -> list[str]:
    """What a budget of weights saves, for a terminal; nothing where there is none."""
    if not plan.linears_before:
        return []
    return [
        f"linear layers               {linear_words(plan)}",
        f"decoding a token            {decode_words(*decode_flops(facts, plan, context), context)}",
    ]


def decode_words(before: float, after: float, context: float) -> str:
    """What decoding one token costs before and after, with `context` tokens in the cache."""
    change = 100 * (after / before - 1)
    return f"{before:.3g} -> {after:.3g} FLOPs at {context:,.0f} cached tokens ({change:+.1f} %, calculated)"


def positions_line(facts: ModelFacts) -> str:
    """The line on how the model knows where a token stands."""
    if not facts.rotary_dim:
        return f"positions    learned, context {facts.max_context:,}"
    part = "" if facts.rotary_dim == facts.head_dim else f", {facts.rotary_dim} dims of a head"
    return f"rope         {facts.rope_type}, base {facts.rope_theta:g}{part}, context {facts.max_context:,}"
