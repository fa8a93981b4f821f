# SPDX-License-Identifier: Apache-2.0
"""Tokens per second of conversions against their original, by the same `generate`, in turns.

Run as `python tests/bench/bench_decode.py --base FOLDER NAME=FOLDER ...`, each NAME an exported conversion.
A cache is filled by reading real text once, and repeated for a batch. Then every model writes a few tokens,
in turns, round after round, so that a busy machine slows them alike; the cache is cut back in between. A
step's time is the median of all. `original, concatenating` is what transformers does when nobody asks.
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, StoppingCriteria, StoppingCriteriaList

from core.calibrate.text import read_text
from core.calibrate.tokens import tokenize
from core.evaluate import load_model
from core.evaluate.kv_memory import filled_bytes, held_bytes, new_cache
from core.process import hide_progress_bars

PIECE = 512
KINDS = ("attention", "of it projections", "MLP", "head")
SIZES = tuple((batch, context) for context in (512, 2048, 8192) for batch in (1, 8))


class Clock(StoppingCriteria):
    """Notes when each token was there; stops nothing."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        self.times.append(time.perf_counter())
        return torch.zeros(len(input_ids), dtype=torch.bool)


class Runner:
    """One model with a filled cache."""

    def __init__(self, model: Any, ids: Tensor, cache: Any, batch: int) -> None:
        self._model, self._ids, self._cache = model, ids.expand(batch, -1), cache
        for piece in torch.split(ids[:, :-1], PIECE, dim=1):
            model(piece, past_key_values=cache, use_cache=True, logits_to_keep=1)
        if batch > 1:
            cache.batch_repeat_interleave(batch)
        self.seconds: list[float] = []
        self.peak = 0

    def turn(self, tokens: int) -> None:
        """Write `tokens` tokens, then forget them."""
        before, clock = self._cache.get_seq_length(), Clock()
        self._model.generate(
            self._ids,
            attention_mask=torch.ones_like(self._ids),
            past_key_values=self._cache,
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            do_sample=False,
            stopping_criteria=StoppingCriteriaList([clock]),
        )
        self.seconds += [end - start for start, end in zip(clock.times, clock.times[1:], strict=False)]
        self.peak = max(self.peak, held_bytes(self._cache))
        self.filled = filled_bytes(self._cache) // self._cache.get_seq_length()
        self._cache.crop(before - self._cache.get_seq_length())

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


class Shares:
    """Seconds of a forward pass by what is computed: hooks before and after the modules of a kind."""

    def __init__(self, model: Any) -> None:
        self.seconds: dict[str, float] = {}
        self._since: dict[int, float] = {}
        self._hooks: list[Any] = []
        for name, module in model.named_modules():
            kind = {"self_attn": "attention", "mlp": "MLP", "lm_head": "head"}.get(name.rsplit(".", 1)[-1])
            if kind:
                self._watch(module, kind)
            elif isinstance(module, nn.Linear) and ".self_attn." in name:
                self._watch(module, "of it projections")

    def _watch(self, module: nn.Module, kind: str) -> None:
        def start(one: nn.Module, *_: Any) -> None:
            self._since[id(one)] = time.perf_counter()

        def stop(one: nn.Module, *_: Any) -> None:
            spent = time.perf_counter() - self._since[id(one)]
            self.seconds[kind] = self.seconds.get(kind, 0.0) + spent

        self._hooks += [module.register_forward_pre_hook(start), module.register_forward_hook(stop)]

    def close(self) -> None:
        for hook in self._hooks:
            hook.remove()


def measure(
    models: dict[str, Any], ids: Tensor, batch: int, context: int, rounds: int, tokens: int
) -> list[dict[str, Any]]:
    """One row per model: milliseconds per step, and bytes of its cache."""
    text = ids[None, : context + 1]
    runners: dict[str, Runner] = {}
    for name, model in models.items():
        runners[name] = Runner(model, text, new_cache(model), batch)
    base = next(iter(models.values()))
    runners["original, concatenating"] = Runner(base, text, DynamicCache(), batch)
    for number in range(rounds + 1):
        for runner in runners.values():
            runner.turn(tokens)
            if not number:
                runner.seconds.clear()
    rows = []
    for name, runner in runners.items():
        row = {
            "name": name,
            "batch": batch,
            "context": context,
            "ms": 1000 * runner.median,
            "steps": len(runner.seconds),
            "peak": runner.peak,
            "filled": runner.filled // batch,
        }
        if name in models:
            row |= shares(models[name], runner, tokens)
        rows.append(row)
    return rows


def shares(model: Any, runner: Runner, tokens: int) -> dict[str, Any]:
    """Where one more turn's time goes."""
    watch = Shares(model)
    runner.turn(tokens)
    watch.close()
    # the first token of a turn is not between two, but its parts are counted
    return {"shares": {kind: 1000 * spent / tokens for kind, spent in watch.seconds.items()}}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: ratios against the original with the same kind of cache, and with its usual one."""
    lines = [
        "| context | batch | model | ms per step | tokens/s | x original | x original, concatenating "
        "| attention / projections / MLP / head, ms | cache at its peak, MB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        same = [one for one in rows if (one["batch"], one["context"]) == (row["batch"], row["context"])]
        base, usual = (
            next(one["ms"] for one in same if one["name"] == name)
            for name in ("original", "original, concatenating")
        )
        spent = row.get("shares", {})
        where = " / ".join(
            f"{spent[kind]:.1f}"
            for kind in ("attention", "of it projections", "MLP", "head")
            if kind in spent
        )
        lines.append(
            f"| {row['context']} | {row['batch']} | {row['name']} | {row['ms']:.1f} "
            f"| {1000 * row['batch'] / row['ms']:.1f} | {base / row['ms']:.2f} | {usual / row['ms']:.2f} "
            f"| {where} | {row['peak'] / 1e6:.1f} |"
        )
    return "\n".join(lines)


@torch.no_grad()
def main() -> None:
    """Print the table, keep the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("conversion", nargs="+", help="NAME=FOLDER of an exported conversion")
    parser.add_argument("--base", required=True, type=Path, help="folder of the original")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=9)
    parser.add_argument("--size", action="append", help="BATCHxCONTEXT, may be repeated")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    hide_progress_bars()
    folders = {"original": asked.base} | {
        name: Path(folder) for name, folder in (word.split("=", 1) for word in asked.conversion)
    }
    dtype = getattr(torch, asked.dtype)
    models = {name: load_model(folder, dtype=dtype, device="cpu") for name, folder in folders.items()}
    ids = tokenize(asked.base, read_text("wikipedia-heldout"))
    sizes = [tuple(map(int, one.split("x"))) for one in asked.size] if asked.size else SIZES
    rows: list[dict[str, Any]] = []
    for batch, context in sizes:
        rows += measure(models, ids, batch, context, asked.rounds, asked.tokens)
        print(table([one for one in rows if (one["batch"], one["context"]) == (batch, context)]), flush=True)
    if asked.out:
        asked.out.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    print(f"\n{asked.dtype}, {torch.get_num_threads()} threads\n\n{table(rows)}")


if __name__ == "__main__":
    main()
