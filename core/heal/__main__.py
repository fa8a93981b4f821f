# SPDX-License-Identifier: Apache-2.0
"""`accelerate launch -m core.heal SPEC.json --out DIR`: the same healing on several processes or GPUs.

Which processes, devices and sharding is accelerate's configuration (`accelerate config`). SPEC.json is a
JobSpec of kind heal, or what `mla-workbench heal --json` printed.
"""

import argparse
import json
import sys
from pathlib import Path

from core.errors import WorkbenchError
from core.events import Event, NeverCancel
from core.kinds import run
from core.settings import load_settings
from core.spec import parse_spec
from core.workspace import Workspace


class StderrSink:
    """One line for every log, evaluation and figure of the result."""

    def emit(self, event: Event) -> None:
        if event.kind in ("log", "progress"):
            print(event.message, file=sys.stderr, flush=True)
        elif event.kind == "metric":
            print(f"{event.name} {event.value:g} {event.unit}", file=sys.stderr, flush=True)


def main() -> int:
    """Entry point; 0 when the result is there."""
    parser = argparse.ArgumentParser(prog="accelerate launch -m core.heal", description=__doc__)
    parser.add_argument("spec", type=Path, help="JSON of a request of kind heal")
    parser.add_argument("--out", type=Path, required=True, help="folder to create")
    asked = parser.parse_args()
    out = asked.out.expanduser().absolute()
    try:
        said = json.loads(asked.spec.read_text(encoding="utf-8"))
        spec = parse_spec(said.get("spec", said))
        run(
            spec,
            Workspace(out.with_name(out.name + ".partial"), out),
            StderrSink(),
            NeverCancel(),
            load_settings(),
        )
    except (WorkbenchError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
