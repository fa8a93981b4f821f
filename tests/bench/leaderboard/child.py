# SPDX-License-Identifier: Apache-2.0
"""One conversion in a process of its own, so that time and peak memory are its own.

Run as `python -m leaderboard.child SPEC OUT ANSWER`: reads a JobSpec, writes one JSON object to ANSWER.
"""

import json
import sys
import time
from pathlib import Path

from core.errors import WorkbenchError
from core.events import Event, NeverCancel
from core.kinds import run
from core.parent import die_with_parent
from core.settings import load_settings
from core.spec import parse_spec
from core.workspace import Workspace


class Stopwatch:
    """Keeps the metrics, and how long every stage took."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}
        self.stages: dict[str, float] = {}
        self._stage = ""
        self._started = time.monotonic()

    def emit(self, event: Event) -> None:
        if event.kind == "metric":
            self.metrics[event.name] = event.value
        elif event.kind == "stage":
            self.stop(event.stage)
        elif event.kind == "log" and event.level != "info":
            print(f"{event.level}: {event.message}", file=sys.stderr, flush=True)

    def stop(self, following: str = "") -> None:
        """End the stage that runs, begin `following`."""
        now = time.monotonic()
        if self._stage:
            self.stages[self._stage] = self.stages.get(self._stage, 0.0) + now - self._started
        self._stage, self._started = following, now


def main(spec: Path, out: Path, answer: Path) -> int:
    """Exit code 0 and the figures, or 1 and the error."""
    die_with_parent()
    watch = Stopwatch()
    workspace = Workspace(work=out.with_name(out.name + ".partial"), result=out)
    try:
        asked = parse_spec(json.loads(spec.read_text(encoding="utf-8")))
        run(asked, workspace, watch, NeverCancel(), load_settings())
    except WorkbenchError as error:
        answer.write_text(json.dumps({"error": str(error)}), encoding="utf-8")
        return 1
    except KeyboardInterrupt:
        return 130
    watch.stop()
    answer.write_text(json.dumps({"metrics": watch.metrics, "stages": watch.stages}), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(*(Path(word) for word in sys.argv[1:])))
