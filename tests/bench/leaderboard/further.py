# SPDX-License-Identifier: Apache-2.0
"""What other benchmarks have measured, as sections of the page: healed conversions, decode speed.

bench_healing.py names a row PRESET-KEEP; bench_decode.py keeps one row per model, context and batch.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from leaderboard.results import Result
from leaderboard.setting import Setting
from leaderboard.tables import ratio_text, table

Entry = Mapping[str, Any]


def stored(store: Path, name: str) -> list[dict[str, Any]]:
    """The rows of a benchmark; none before it has run."""
    file = store / f"{name}.json"
    rows: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    return rows


def healed(entries: Sequence[Entry], results: Sequence[Result], asked: Setting) -> str:
    """Conversions that learned from their original, beside what they were."""
    if not entries:
        return ""
    head = ["start", "keep", "tokens learned"]
    head += [f"{text}: {what}" for text in asked.texts for what in ("before", "healed (95 %)", "KL (nats)")]
    head += ["same top token"]
    plain = {(one.row.preset, one.row.keep): one for one in results if not one.row.switched}
    return (
        "## Healed\n\nMeasured by `tests/bench/bench_healing.py` on the same windows; intervals are over the "
        "windows. How: [healing.md](healing.md).\n\n"
        + table(head, [_healed(one, plain, asked.texts) for one in entries])
    )


def _healed(entry: Entry, plain: Mapping[tuple[str, float], Result], texts: Sequence[str]) -> list[str]:
    preset, _, keep = entry["name"].rpartition("-")
    start = plain.get((preset, float(keep)))
    cells = [f"`{preset}`", keep, f"{entry['tokens']:,.0f}"]
    for text in texts:
        after = entry["after"][text]
        ends = " to ".join(ratio_text(after["interval"][end]) for end in ("low", "high"))
        cells += [
            ratio_text(start.quality[text].ratio) if start else "–",
            f"{ratio_text(after['ratio'])} ({ends})",
            (f"{start.quality[text].kl_to_base:.3f} → " if start else "") + f"{after['kl']:.3f}",
        ]
    return [*cells, f"{100 * entry['after'][texts[0]]['top1']:.1f} %"]


def decoded(entries: Sequence[Entry]) -> str:
    """Tokens per second beside the original's, by context and batch."""
    if not entries:
        return ""
    head = ["context", "batch", "model", "tokens/s", "beside the original", "beside it, concatenating"]
    head += ["cache at its peak, MB"]
    rows = []
    for one in entries:
        same = {
            other["name"]: other["ms"]
            for other in entries
            if (other["batch"], other["context"]) == (one["batch"], one["context"])
        }
        rows.append(
            [
                f"{one['context']:,}",
                str(one["batch"]),
                one["name"],
                f"{1000 * one['batch'] / one['ms']:.1f}",
                f"x{same['original'] / one['ms']:.2f}",
                f"x{same['original, concatenating'] / one['ms']:.2f}",
                f"{one['peak'] / 1e6:,.1f}",
            ]
        )
    return (
        "## Decode speed\n\nMeasured by `tests/bench/bench_decode.py` with the same `generate`, in turns. "
        "The original has the same kind of cache as its conversions, and in one row the one that "
        "transformers gives it, which is copied at every step. Where time goes: [decode.md](decode.md).\n\n"
        + table(head, rows)
    )
