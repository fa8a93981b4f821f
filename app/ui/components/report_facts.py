# SPDX-License-Identifier: Apache-2.0
"""The facts of a report: original, conversion, texts and sums; bytes and predictions beside measurements."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from app.services.report import Report
from app.ui.components.chips import source, term
from app.ui.components.results import Metrics
from app.ui.components.spec import spec_pairs
from app.ui.components.tables import framed
from app.ui.format import integer, number, size
from core.presets import PRESETS

Rows = list[tuple[str, ...]]


def facts_of(found: Report) -> str:
    """Original and result with their sums, then every choice that shaped it."""
    base = found.record.get("base", {})
    preset = PRESETS.get(found.spec.preset or "")
    pairs = [
        ("Original", _original(found, base)),
        ("Its weights", _sums(base.get("sha256", {}))),
        ("Result", f'<a href="/jobs/{escape(found.job.id)}">job {escape(found.job.id)}</a>'),
        ("Its weights", _sums(found.record.get("files", {}))),
        ("Method", f"{escape(preset.paper)}{source('paper')}" if preset else ""),
        *((escape(name), escape(value)) for name, value in spec_pairs(found.spec) if name != "Model"),
        ("Seed", f"{found.spec.calibration.seed} of calibration{_healing_seed(found)}"),
        ("Versions", _versions(found)),
    ]
    body = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in pairs if value)
    return f'<dl class="spec">{body}</dl>' + _files(found)


def _original(found: Report, base: Mapping[str, Any]) -> str:
    revision = base.get("revision") or found.spec.revision
    commit = f" at commit {escape(str(revision))}" if revision else ", no commit: identified by its sum"
    return f"{escape(str(found.spec.model))}{commit}"


def _sums(sums: Mapping[str, str]) -> str:
    """The SHA-256 of every file; they are what identifies weights."""
    return "<br>".join(
        f'<code title="SHA-256 {escape(value)}">{escape(name)} {escape(value[:16])}…</code>'
        for name, value in sums.items()
    )


def _healing_seed(found: Report) -> str:
    return f", {found.spec.heal.seed} of the healing" if found.spec.heal else ""


def _versions(found: Report) -> str:
    versions = found.record.get("versions", {})
    return ", ".join(f"{escape(name)} {escape(str(one))}" for name, one in versions.items())


def _files(found: Report) -> str:
    rows = "".join(
        f"<tr><td>{escape(file.name)}</td><td>{size(file.size)}</td><td><code>{file.sha256}</code></td></tr>"
        for file in found.files
    )
    if not rows:
        return ""
    table = framed("files", rows)
    return f"<details><summary>{len(found.files)} files with their SHA-256 in full</summary>{table}</details>"


def bytes_rows(metrics: Metrics) -> Rows:
    """Cache bytes per token by formula and in a real cache."""
    rows: Rows = []
    for label, name in (
        ("original, by formula", "kv_bytes_per_token_before"),
        ("converted, by formula", "kv_bytes_per_token_formula"),
        ("converted, in a real cache", "kv_bytes_per_token_measured"),
    ):
        if one := metrics.get(name):
            rows.append((label, f"{integer(one.value)} B", source(one.source)))
    formula, real = (metrics.get(f"kv_bytes_per_token_{one}") for one in ("formula", "measured"))
    if formula and real:
        agrees = formula.value == real.value
        tone, words = ("good", "they agree") if agrees else ("bad", "these must be equal and are not")
        rows.append(("formula and measurement", f'<span class="check check-{tone}">{words}</span>', ""))
    if one := metrics.get("logits_difference"):
        words = "reloaded in a fresh process: largest difference of a logit"
        rows.append((words, number(one.value), source(one.source)))
    return rows


# label, what was predicted, what was found, and on which text
_PREDICTED: Sequence[tuple[str, str, str, str]] = (
    (f"{term('KL', 'kl')} to the original, nats", "kl_predicted", "kl_to_base", "evaluation text"),
    (f"{term('KL', 'kl')} while allocating", "kl_held_back_predicted", "kl_held_back", "held-back text"),
)


def predicted_rows(metrics: Metrics) -> Rows:
    """What a profile or the allocation said before beside what was measured after."""
    rows: Rows = []
    for label, before, after, about in _PREDICTED:
        said, found = metrics.get(before), metrics.get(after)
        if said and found:
            rows.append(
                (
                    f"{label}, {about}",
                    f"{number(said.value)}{_ends(metrics, before)} {source(said.source)}",
                    f"{number(found.value)}{_ends(metrics, after)} {source(found.source)}",
                    _inside(metrics, before, found.value),
                )
            )
    return rows


def _ends(metrics: Metrics, name: str) -> str:
    low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
    return f" <small>{number(low.value)} to {number(high.value)}</small>" if low and high else ""


def _inside(metrics: Metrics, name: str, value: float) -> str:
    low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
    if not low or not high:
        return ""
    return "within the range that was said" if low.value <= value <= high.value else "outside of that range"
