# SPDX-License-Identifier: Apache-2.0
"""Every row in turn: reuse, or convert and measure, and keep."""

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from core.calibrate.text import read_text
from core.calibrate.tokens import calibration_windows
from core.errors import StateError
from core.export.record import sha256_of
from core.facts import ModelFacts, read_facts
from core.planning import make_plan
from core.settings import Settings
from core.weights.index import weight_files
from core.weights.locate import locate
from leaderboard.convert import ConversionFailed, Converter
from leaderboard.quality import Judge
from leaderboard.results import Failure, Result, Results, code_version, fingerprint
from leaderboard.rows import Row
from leaderboard.setting import Setting

Say = Callable[[str], None]


class Bench:
    """One run over `rows`; whatever is finished lies in `folder`/<fingerprint>/ and is not done again."""

    def __init__(
        self,
        setting: Setting,
        settings: Settings,
        folder: Path,
        say: Say,
        version: Callable[[], str] = code_version,
    ) -> None:
        self._setting, self._settings, self._say, self._version = setting, settings, say, version
        self._model = locate(setting.model, settings=settings).folder
        self._code = version()
        weights = {file.name: sha256_of(file) for file in weight_files(self._model)}
        asked = setting.calibration
        windows = calibration_windows(self._model, asked.text, asked.tokens, asked.context, asked.window_seed)
        texts = [read_text(name) for name in sorted({setting.long_text, *setting.texts})]
        tag = fingerprint(self._code, weights, [*texts, str(windows.tolist())])
        self.results = Results(folder / tag, setting)
        self._converter = Converter(folder / tag / "work", settings)
        # the original's states depend on this code too: its fingerprint guards them
        self._records = folder / tag / "base"
        self._judge: Judge | None = None

    def run(self, rows: Sequence[Row]) -> Iterator[Result | Failure]:
        """Yield each row's outcome; raises StateError when the programs are edited meanwhile."""
        for row in rows:
            row.spec(self._setting)  # a wrong row is refused before the first one costs a minute
        facts = read_facts(self._setting.model, settings=self._settings)
        for number, row in enumerate(rows, start=1):
            outcome = self.results.load(row) or self._refusal(row, facts) or self._measure(row)
            self._say(f"[{number}/{len(rows)}] {row.preset} {row.keep:g} {row.name}: {_sentence(outcome)}")
            yield outcome

    def _refusal(self, row: Row, facts: ModelFacts) -> Failure | None:
        plan = make_plan(row.spec(self._setting), facts)
        if not plan.problems:
            return None
        return Failure(row=row, message=plan.problems[0].message, is_refused=True)

    def _measure(self, row: Row) -> Result | Failure:
        self._check_code()
        name = self.results.path(row).stem
        try:
            model, conversion = self._converter.convert(row.spec(self._setting), name, is_timed=row.is_timed)
        except ConversionFailed as error:
            return Failure(row=row, message=error.message, is_refused=False)
        self._check_code()
        started = time.monotonic()
        judge = self._judge = self._judge or Judge(self._model, self._setting, self._records)
        result = Result(
            row=row,
            conversion=conversion,
            quality=judge.quality(model),
            positions=judge.positions(model) if row.by_position else (),
            evaluation_seconds=time.monotonic() - started,
            date=datetime.now(UTC).date().isoformat(),
        )
        self.results.save(result)
        self._converter.forget(name)
        return result

    def _check_code(self) -> None:
        if self._version() != self._code:
            raise StateError(
                "the programs were edited while the leaderboard ran",
                hint="run it again: rows of the new version are measured from the start",
            )


def _sentence(outcome: Result | Failure) -> str:
    if isinstance(outcome, Failure):
        return f"{'refused' if outcome.is_refused else 'FAILED'}: {outcome.message}"
    ratios = ", ".join(f"{text} x{quality.ratio:.3g}" for text, quality in outcome.quality.items())
    seconds = outcome.conversion.metrics["seconds"]
    return f"{ratios}; converted in {seconds:.0f} s, measured in {outcome.evaluation_seconds:.0f} s"
