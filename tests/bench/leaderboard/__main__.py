# SPDX-License-Identifier: Apache-2.0
"""`make bench`: run the rows that are missing, then write the page and its plot."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from core.devices import describe_devices
from core.errors import WorkbenchError
from core.facts import read_facts
from core.process import hide_progress_bars
from core.settings import Settings
from core.spec import Calibration
from core.weights.demo import prepare_demo
from leaderboard.further import stored
from leaderboard.plot import draw
from leaderboard.report import About, markdown
from leaderboard.results import Failure, Result, code_version, versions
from leaderboard.rows import ABLATIONS, Row, ablation_rows, families, preset_rows
from leaderboard.run import Bench
from leaderboard.setting import BENCH, FULL, KEEPS, QUICK, ROOT, Setting

# the demo model that the test suite prepares
HOME = ROOT / "build" / "test-home"


def main(words: Sequence[str]) -> int:
    """Exit code 0 when all rows have figures or are refused by their plan, 1 otherwise, 130 after Ctrl-C."""
    asked = _parse(words)
    try:
        return _run(asked)
    except WorkbenchError as error:
        print(f"error: {error.message}\n  fix: {error.hint}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; finished rows are kept, run it again to continue", file=sys.stderr)
        return 130


def _run(asked: argparse.Namespace) -> int:
    hide_progress_bars()
    settings = Settings(data_dir=HOME)
    setting = setting_of(asked)
    if setting.model == QUICK.model:
        prepare_demo(settings)
    rows = rows_of(asked)
    bench = Bench(setting, settings, asked.store, lambda line: print(line, flush=True))
    outcomes = list(bench.run(rows))
    write_page(asked.out, _about(setting, settings, asked), outcomes, asked.store)
    return int(any(isinstance(one, Failure) and not one.is_refused for one in outcomes))


def write_page(out: Path, about: About, outcomes: Sequence[Result | Failure], store: Path) -> None:
    """leaderboard.md and images/leaderboard.svg in `out`."""
    further = [stored(store, name) for name in ("calibration_memory", "healing", "decode")]
    (out / "images").mkdir(parents=True, exist_ok=True)
    results = [one for one in outcomes if isinstance(one, Result)]
    (out / "images" / "leaderboard.svg").write_text(draw(results, about.cached_before), encoding="utf-8")
    (out / "leaderboard.md").write_text(markdown(about, outcomes, *further), encoding="utf-8")
    print(f"written: {out / 'leaderboard.md'}")


def rows_of(asked: argparse.Namespace) -> list[Row]:
    """The presets' rows, then the ablations of those presets."""
    presets = asked.preset or families()
    ablations = [one for one in ABLATIONS if not asked.preset or one[1] in presets]
    return preset_rows(presets, asked.keep or KEEPS) + (
        [] if asked.no_ablations else ablation_rows(ablations)
    )


def setting_of(asked: argparse.Namespace) -> Setting:
    """Quick or full, with what was named on the command line."""
    form = FULL if asked.full else QUICK
    named = {"model": asked.model, "windows": asked.windows}
    given = {name: value for name, value in named.items() if value is not None}
    if asked.tokens is not None:
        given["calibration"] = Calibration(tokens=asked.tokens)
    return form.model_copy(update=given)


def _about(setting: Setting, settings: Settings, asked: argparse.Namespace) -> About:
    facts = read_facts(setting.model, settings=settings)
    return About(
        setting=setting,
        form="full" if asked.full else "quick",
        cores=os.cpu_count() or 1,
        device=describe_devices(),
        versions=versions(),
        code=code_version(),
        cached_before=facts.kv_bytes_per_token,
        numbers_before=facts.kv_numbers_per_layer,
        rows=len(rows_of(asked)),
    )


def _parse(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="leaderboard", description=__doc__)
    parser.add_argument("--full", action="store_true", help="twice the windows")
    parser.add_argument("--model", help="a local folder or demo")
    parser.add_argument(
        "--preset", action="append", help="only this preset and its ablations; may be repeated"
    )
    parser.add_argument("--keep", action="append", type=float, help="only this budget; may be repeated")
    parser.add_argument("--windows", type=int, help="evaluation windows per text")
    parser.add_argument("--tokens", type=int, help="calibration tokens")
    parser.add_argument("--no-ablations", action="store_true", help="presets only")
    parser.add_argument("--store", type=Path, default=BENCH, help="where finished rows are kept")
    parser.add_argument("--out", type=Path, help="folder of the page; default: docs, or --store for a part")
    asked = parser.parse_args(words)
    parts = (asked.model, asked.preset, asked.keep, asked.windows, asked.tokens, asked.no_ablations or None)
    is_whole = all(part is None for part in parts)
    asked.out = asked.out or (ROOT / "docs" if is_whole else asked.store)
    return asked


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
