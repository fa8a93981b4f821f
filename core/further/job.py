# SPDX-License-Identifier: Apache-2.0
"""An evaluation as a job: piece by piece, each kept; the tables grow on the page while it runs."""

import json
import shutil
import time
from typing import Any

from core.events import Cancel, Figure, Metric, Progress, Sink, StageStarted
from core.further.markdown import as_markdown
from core.further.pieces import Piece, Pieces
from core.further.ready import Ready, prepare_evaluation
from core.further.runner import OnStep, Runner
from core.further.tables import tables
from core.process import peak_memory_bytes
from core.reporting import Reporter
from core.settings import Settings
from core.spec import JobSpec
from core.workspace import Workspace, own_work


def evaluate_job(spec: JobSpec, workspace: Workspace, sink: Sink, cancel: Cancel, settings: Settings) -> None:
    """Measure what `spec.evaluate` asks for; evaluation.json and evaluation.md are the result.

    Call it again with the same arguments to resume: finished pieces are kept. Raises WorkbenchError, or
    Cancelled between windows and questions.
    """
    started = time.monotonic()
    sink.emit(StageStarted(stage="preparing"))
    ready = prepare_evaluation(spec, workspace, settings)
    own_work(workspace, ready.fingerprint, sink)
    found = _measure(ready, Pieces(workspace.work / "pieces"), sink, cancel)
    report = tables(ready.base, ready.conversions, found)
    _tell(report, sink)
    sink.emit(Metric(name="seconds", value=time.monotonic() - started, unit="s"))
    sink.emit(Metric(name="peak_memory_bytes", value=peak_memory_bytes(), unit="bytes"))
    _publish(spec, workspace, report, found)


def _measure(ready: Ready, pieces: Pieces, sink: Sink, cancel: Cancel) -> dict[Piece, dict[str, Any]]:
    """Every piece, what an earlier attempt found first."""
    stored = {piece: pieces.find(piece) for piece in ready.pieces}
    found = {piece: one for piece, one in stored.items() if one is not None}
    todo = [piece for piece in ready.pieces if piece not in found]
    report, total = Reporter(sink, cancel), len(ready.pieces)
    report.stage("measuring", total, len(found))
    if found:
        report.log(f"{len(found)} of {total} pieces are stored: not measured again")
        _show(ready, found, sink)
    runner = Runner(ready)
    for piece in todo:
        found[piece] = runner.run(piece, _on_step(piece, len(found), total, sink, cancel))
        pieces.store(piece, found[piece])
        _show(ready, found, sink)
        report.step("measuring", len(found), total, piece.words)
    return {piece: found[piece] for piece in ready.pieces}


def _on_step(piece: Piece, done: int, total: int, sink: Sink, cancel: Cancel) -> OnStep:
    def on_step(step: int, steps: int) -> None:
        cancel.check()
        if step < steps:
            words = f"{piece.words}: {step} of {steps}"
            sink.emit(Progress(stage="measuring", done=done, total=total, message=words))

    return on_step


def _show(ready: Ready, found: dict[Piece, dict[str, Any]], sink: Sink) -> None:
    sink.emit(Figure(name="evaluation", data=tables(ready.base, ready.conversions, found)))


def _tell(report: dict[str, Any], sink: Sink) -> None:
    """The first conversion on the first text, under the names a conversion uses for its own measurement."""
    row = next((one for one in report["texts"] if "perplexity_base" in one), None)
    if row is None:
        return
    values = {
        "perplexity_base": (row["perplexity_base"], ""),
        "perplexity": (row["perplexity"], ""),
        "perplexity_ratio": (row["perplexity"] / row["perplexity_base"], "ratio"),
        "kl_to_base": (row["kl_to_base"], "nats"),
        "top1_agreement": (row["top1_agreement"], "fraction"),
        "evaluation_tokens": (row["tokens"], "tokens"),
    }
    for name, (value, unit) in values.items():
        sink.emit(Metric(name=name, value=float(value), unit=unit))


def _publish(
    spec: JobSpec, workspace: Workspace, report: dict[str, Any], found: dict[Piece, dict[str, Any]]
) -> None:
    """The report for programs and for people, by one rename."""
    export = workspace.work / "export"
    export.mkdir(parents=True, exist_ok=True)
    answers = [{**vars(piece), **one} for piece, one in found.items() if piece.kind != "text"]
    asked = spec.evaluate.model_dump(mode="json") if spec.evaluate else {}
    whole = {"model": spec.model, "revision": spec.revision, "asked": asked, **report, "answers": answers}
    (export / "evaluation.json").write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    (export / "evaluation.md").write_text(as_markdown(report), encoding="utf-8")
    workspace.result.parent.mkdir(parents=True, exist_ok=True)
    export.rename(workspace.result)
    shutil.rmtree(workspace.work)
