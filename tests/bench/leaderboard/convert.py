# SPDX-License-Identifier: Apache-2.0
"""Start the converting process of a row, with a data folder that decides what calibration it may reuse."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from core.errors import WorkbenchError
from core.events import Event, NeverCancel
from core.profiling import make_profile
from core.settings import Settings
from core.spec import JobSpec
from leaderboard.results import Conversion
from leaderboard.setting import ROOT

# the last words of a process that died without an answer
_LAST = 400


class _Unheard:
    """Where the events of making a profile go."""

    def emit(self, event: Event) -> None:
        del event


class ConversionFailed(WorkbenchError):
    """The converting process ended without a converted model."""


class Converter:
    """Runs conversions below `folder`; models are those of `settings`.

    A timed conversion gets an empty data folder, so it calibrates for itself. All others read one profile,
    made before the first of them: the statistics, and so the converted bytes, are the same.
    """

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._folder = folder
        self._models = settings.models_dir

    def convert(self, spec: JobSpec, name: str, *, is_timed: bool) -> tuple[Path, Conversion]:
        """(folder of the converted model, its figures); one that was finished before is taken as it is.

        Raises ConversionFailed with the process's own message.
        """
        work, shared = self._folder / name, self._folder / "home"
        out, answer = work / "model", work / "answer.json"
        if not (out.is_dir() and answer.is_file()):
            # partial work is not continued: the time of a conversion is that of a whole one
            shutil.rmtree(work, ignore_errors=True)
            home = self._home(work / "home" if is_timed else shared)
            if not is_timed:
                _profile(spec, home)
            self._run(spec, work, home)
        return out, Conversion.model_validate_json(answer.read_text(encoding="utf-8"))

    def forget(self, name: str) -> None:
        """Remove the converted model of a row that is measured."""
        shutil.rmtree(self._folder / name, ignore_errors=True)

    def _home(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        models = folder / self._models.name
        if not models.is_symlink():
            models.symlink_to(self._models)
        return folder

    def _run(self, spec: JobSpec, work: Path, home: Path) -> None:
        work.mkdir(parents=True, exist_ok=True)
        request, log, answer = work / "spec.json", work / "log.txt", work / "answer.json"
        request.write_text(spec.model_dump_json(), encoding="utf-8")
        words: list[str | Path] = [sys.executable, "-m", "leaderboard.child", request, work / "model", answer]
        paths = [str(Path(__file__).parents[1]), str(ROOT), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {
            "MLA_DATA_DIR": str(home),
            "HF_HUB_OFFLINE": "1",
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        }
        with log.open("wb") as file:
            done = subprocess.run(words, env=environment, stdout=file, stderr=file, check=False)
        if done.returncode == 130:
            raise KeyboardInterrupt
        if done.returncode:
            raise ConversionFailed(_complaint(done.returncode, answer, log), hint=f"see {log}")


def _profile(spec: JobSpec, home: Path) -> None:
    try:
        make_profile(spec, Settings(data_dir=home), _Unheard(), NeverCancel())
    except WorkbenchError as error:
        raise ConversionFailed(f"no profile: {error.message}", hint=error.hint) from error


def _complaint(code: int, answer: Path, log: Path) -> str:
    if answer.is_file():
        return str(json.loads(answer.read_text(encoding="utf-8"))["error"])
    said = log.read_text(encoding="utf-8", errors="replace")[-_LAST:].strip()
    return f"the process ended with exit code {code}: {said or 'no message'}"
