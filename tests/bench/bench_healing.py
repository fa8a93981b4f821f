# SPDX-License-Identifier: Apache-2.0
"""What healing takes back: healed conversions on held-out text, one row each in healing.json.

What they were before is in the leaderboard, on the same windows.

Run as `python tests/bench/bench_healing.py NAME=FOLDER ... --base FOLDER`; FOLDER is an exported conversion.
A row that is there is not made again; `--table` prints what there is. Every row asks the same teacher of the
same windows, so the first one pays for all. The healed model stays in OUT/NAME.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from core.calibrate.text import read_text
from core.evaluate import evaluate_texts
from core.events import Event, NeverCancel
from core.heal.job import heal
from core.heal.spec import Healing
from core.process import hide_progress_bars
from core.settings import load_settings
from core.spec import JobSpec
from core.workspace import Workspace

TEXTS = ("wikipedia-heldout", "news")
CONTEXT, WINDOWS = 512, 8


class Telling:
    """Prints every evaluation, and keeps the figures."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}
        self._started = time.monotonic()
        self._points = 0

    def emit(self, event: Event) -> None:
        if event.kind == "metric":
            self.metrics[event.name] = event.value
        elif event.kind == "figure" and event.name == "healing_curve":
            held: Mapping[str, Any] = event.data["held_out"]
            if len(held["kl"]) > self._points:
                self._points = len(held["kl"])
                seconds = time.monotonic() - self._started
                print(
                    f"  {held['tokens'][-1]:>8,} tokens: KL {held['kl'][-1]:.4f}, {seconds:.0f} s", flush=True
                )


def figures(folder: Path, base: Path) -> dict[str, Any]:
    """Both texts: ratio, its interval, KL and agreement."""
    texts = {name: read_text(name) for name in TEXTS}
    found = evaluate_texts(folder, texts, base_folder=base, context=CONTEXT, windows=WINDOWS)
    return {
        name: {
            "ratio": one["perplexity"] / one["perplexity_base"],
            "interval": one["paired"]["perplexity_ratio"],
            "kl": one["kl_to_base"],
            "top1": one["top1_agreement"],
            "tokens": one["tokens"],
        }
        for name, one in found["texts"].items()
    } | {"bytes": found["kv_bytes_per_token"]["measured"]}


def row(name: str, folder: Path, base: Path, out: Path, healing: Mapping[str, Any]) -> dict[str, Any]:
    """Heal one conversion; JSON."""
    asked = Healing(source=str(folder), **healing)
    spec = JobSpec(kind="heal", model=str(base), heal=asked, evaluation=None)
    result, telling, started = out / name, Telling(), time.monotonic()
    workspace = Workspace(work=out / f"{name}.partial", result=result)
    heal(spec, workspace, telling, NeverCancel(), load_settings())
    return {
        "name": name,
        "threads": torch.get_num_threads(),
        "seconds": time.monotonic() - started,
        "healing": asked.model_dump(exclude={"source"}),
        "tokens": telling.metrics["healing_tokens"],
        "best_tokens": telling.metrics["healing_best_tokens"],
        "after": figures(result, base),
    }


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown, in the order of the rows."""
    lines = [
        "| start | bytes per token | rate | tokens | perplexity (95 %) | KL | same top token "
        "| news (95 %) | news: KL |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for one in rows:
        wiki, news = (one["after"][text] for text in TEXTS)
        rate, cached = one["healing"]["learning_rate"], one["after"]["bytes"]
        lines.append(
            f"| {one['name']} | {cached:,} | {rate:g} | {one['tokens']:,.0f} | {_ratio(wiki)} "
            f"| {wiki['kl']:.3f} | {100 * wiki['top1']:.1f} % | {_ratio(news)} | {news['kl']:.3f} |"
        )
    return "\n".join(lines)


def _ratio(found: Mapping[str, Any]) -> str:
    low, high = (found["interval"][end] for end in ("low", "high"))
    return f"x{found['ratio']:.3f} ({low:.3f} to {high:.3f})"


def main() -> None:
    """Make the rows that are missing, then print all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("conversion", nargs="*", help="NAME=FOLDER")
    parser.add_argument("--base", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder of healed models and healing.json")
    parser.add_argument("--set", action="append", default=[], help="FIELD=VALUE of Healing")
    parser.add_argument("--table", action="store_true", help="only print what there is")
    asked = parser.parse_args()
    hide_progress_bars()
    store = asked.out / "healing.json"
    rows = json.loads(store.read_text(encoding="utf-8")) if store.is_file() else []
    if not asked.table:
        asked.out.mkdir(parents=True, exist_ok=True)
        healing = {"evaluations": 10, "checkpoint_seconds": 600.0} | dict(map(_field, asked.set))
        for word in asked.conversion:
            name, folder = word.split("=", 1)
            if any(one["name"] == name for one in rows):
                continue
            print(name, flush=True)
            found = row(name, Path(folder), asked.base, asked.out, healing)
            # another process may have added a row meanwhile
            rows = json.loads(store.read_text(encoding="utf-8")) if store.is_file() else []
            rows.append(found)
            store.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
            print(table([found]), flush=True)
    print(table(rows))


def _field(word: str) -> tuple[str, Any]:
    name, value = word.split("=", 1)
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


if __name__ == "__main__":
    main()
