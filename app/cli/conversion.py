# SPDX-License-Identifier: Apache-2.0
"""`mla-workbench convert`: run the conversion in this process, alone in its work folder."""

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from app.cli.output import TerminalSink
from core.errors import OutputError
from core.events import NeverCancel
from core.settings import Settings
from core.spec import JobSpec
from core.workspace import Workspace

# torch and the libraries under it read them once, when they are imported
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def run_conversion(spec: JobSpec, out: Path, settings: Settings) -> dict[str, float]:
    """Convert with `out`.partial as the work folder; returns the metrics.

    Raises OutputError when `out` exists or another process is writing it.
    """
    if out.exists():
        raise OutputError(f"'{out}' exists already", hint="choose another --out or remove it", field="out")
    limit_threads(settings)
    with only_writer(out):
        from core.kinds import run

        sink = TerminalSink()
        workspace = Workspace(work=out.with_name(out.name + ".partial"), result=out)
        run(spec, workspace, sink, NeverCancel(), settings)
    return sink.metrics


def limit_threads(settings: Settings) -> None:
    """Let MLA_THREADS hold for what is imported from now on; 0 leaves the choice to the libraries."""
    if settings.threads:
        os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(settings.threads)))


@contextmanager
def only_writer(out: Path) -> Iterator[None]:
    """Hold the lock of `out`; raises OutputError when another process does.

    The lock lies in the folder for temporary files: beside `out` it would stay behind when a conversion is
    refused, and inside the work folder it would vanish when that becomes the result.
    """
    tag = hashlib.sha256(os.fsencode(out.resolve())).hexdigest()[:16]
    path = Path(tempfile.gettempdir()) / f"mla-out-{os.getuid()}-{tag}.lock"
    with path.open("w") as file:
        if not _take(file, path):
            raise OutputError(
                f"another conversion is writing '{out}'",
                hint="wait for it, or choose another --out",
                field="out",
            )
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _take(file: TextIO, path: Path) -> bool:
    """Lock `file`, unless its holder removed it between our open and our lock: then it locks nothing."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False
