# SPDX-License-Identifier: Apache-2.0
"""`mla-workbench evaluate`: find the models a user named and measure them."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.further import NO_TEXT, further_spec, recorded_base, run_further
from app.cli.options import Json, Model, Revision
from app.cli.output import reported, show
from app.services.text_names import resolve
from core.calibrate.text import read_text
from core.further.spec import Measurements
from core.process import hide_progress_bars
from core.settings import load_settings
from core.spec import Evaluation
from core.weights.locate import locate

_TABLES = ("by_position", "paired", "texts")
_USUAL = {name: field.default for name, field in Measurements.model_fields.items()}
_CONTEXT = 512


def evaluate(
    model: Model,
    text: Annotated[
        list[str] | None,
        typer.Option(help="UTF-8 file or named text; may be given again; none: leave texts out"),
    ] = None,
    context: Annotated[
        list[int] | None, typer.Option(help=f"tokens per window, {_CONTEXT}; may be given again")
    ] = None,
    windows: Annotated[int, typer.Option(help="windows, from the start of each text")] = 16,
    base: Annotated[
        str | None, typer.Option(help="the original model; default: the one named in conversion.json")
    ] = None,
    revision: Revision = None,
    by_position: Annotated[
        bool, typer.Option("--by-position", help="also by position in the window, for a converted model")
    ] = False,
    beside: Annotated[
        list[str] | None, typer.Option(help="another conversion of the same original; may be given again")
    ] = None,
    retrieval: Annotated[
        list[str] | None, typer.Option(help="retrieval task, such as multikey; may be given again")
    ] = None,
    retrieval_context: Annotated[
        list[int] | None,
        typer.Option(help=f"tokens of a question, {_USUAL['retrieval_contexts'][0]}; may be given again"),
    ] = None,
    samples: Annotated[int, typer.Option(help="questions of every task and length")] = _USUAL["samples"],
    essay: Annotated[str, typer.Option(help="text that needles are hidden in")] = _USUAL["essay"],
    seed: Annotated[int, typer.Option(help="draws the questions")] = _USUAL["seed"],
    harness: Annotated[
        list[str] | None,
        typer.Option(help="task of lm-eval, or commonsense or longbench; may be given again"),
    ] = None,
    harness_folder: Annotated[
        str | None, typer.Option(help="a folder of lm-eval tasks (YAML) with local data")
    ] = None,
    harness_limit: Annotated[
        int | None, typer.Option(help="first questions of every lm-eval task; default: all")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="folder to create, with evaluation.json and evaluation.md")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    json: Json = False,
) -> None:
    """Perplexity of a model; for a converted one also KL, top-1 agreement, KV bytes and 95 % intervals.

    With several lengths, other models, retrieval, lm-eval or --out it does what "Evaluate further" does on
    the page: the answer is evaluation.json, or its tables. With --out the same command continues.
    """
    with reported(json):
        texts, contexts = text or [Evaluation().text], context or [_CONTEXT]
        is_job = beside or retrieval or harness or out or len(contexts) > 1 or texts == [NO_TEXT]
        if not is_job:
            found = evaluate_model(
                model, base, texts, contexts[0], windows, revision, device, by_position=by_position
            )
            show(found, json, table(found))
            return
        measured = {
            "conversions": beside or (),
            "texts": () if texts == [NO_TEXT] else texts,
            "contexts": contexts,
            "windows": windows,
            "retrieval": retrieval or (),
            "retrieval_contexts": retrieval_context or _USUAL["retrieval_contexts"],
            "samples": samples,
            "essay": essay,
            "seed": seed,
            "harness": harness or (),
            "harness_folder": harness_folder,
            "harness_limit": harness_limit,
        }
        settings = load_settings()
        spec = further_spec(model, base, revision, measured, device, settings)
        answer, lines = run_further(spec, out, settings)
        show(answer, json, lines)


def evaluate_model(
    model: str,
    base: str | None,
    texts: Sequence[str],
    context: int,
    windows: int,
    revision: str | None = None,
    device: str = "auto",
    *,
    by_position: bool,
) -> dict[str, Any]:
    """The JSON object of the command; the original of a converted model is found in its conversion.json.

    Of several texts the object holds `texts`, the figures of each under its name. Raises ModelError when a
    model is missing, TextError when a text is unusable or too short.
    """
    settings = load_settings()
    contents = {text: read_text(resolve(settings, text, "text")) for text in texts}
    folder = locate(model, revision=None if base else revision, settings=settings).folder
    from core.devices import choose_device
    from core.evaluate import evaluate, evaluate_texts, is_converted

    hide_progress_bars()
    original = None
    if is_converted(folder):
        name, recorded = recorded_base(folder) if base is None else (base, revision)
        original = locate(name, revision=recorded, settings=settings).folder

    def on_window(done: int, total: int) -> None:
        print(f"window {done} of {total}", file=sys.stderr)

    asked: dict[str, Any] = {
        "base_folder": original,
        "context": context,
        "windows": windows,
        "on_window": on_window,
        "by_position": by_position,
        "device": choose_device(device).type,
    }
    if len(contents) > 1:
        return evaluate_texts(folder, contents, **asked)
    [content] = contents.values()
    return evaluate(folder, content, **asked)


def table(found: dict[str, Any]) -> list[str]:
    """The lines for people."""
    lines = [f"{name:20} {value}" for name, value in found.items() if name not in _TABLES]
    lines += _paired_lines(found.get("paired"))
    lines += [_position_line(row) for row in found.get("by_position", [])]
    for name, figures in found.get("texts", {}).items():
        lines += ["", name, *table(figures)]
    return lines


def _paired_lines(paired: dict[str, Any] | None) -> list[str]:
    """Each figure with its interval, and whether the difference may be chance."""
    if paired is None:
        return []
    names = "perplexity_ratio", "kl_to_base", "top1_agreement"
    about = f"95 % over {paired['windows']} windows"
    return [f"{name:20} {_span(paired[name])}  ({about})" for name in names] + [
        f"{'p_value':20} {paired['p_value']:.3g}  (both models equally good, by flipped signs of windows)"
    ]


def _span(interval: dict[str, float]) -> str:
    return f"{interval['value']:.4f}, {interval['low']:.4f} to {interval['high']:.4f}"


def _position_line(row: dict[str, Any]) -> str:
    span = "" if row["ratio_low"] is None else f" ({row['ratio_low']:.4g} to {row['ratio_high']:.4g})"
    return (
        f"position {row['from']:5} to {row['to']:5}  perplexity {row['perplexity']:9.4g}, "
        f"original {row['perplexity_base']:9.4g}, x{row['ratio']:.4g}{span}"
    )
