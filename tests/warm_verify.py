# SPDX-License-Identifier: Apache-2.0
"""The last check of a conversion, real and in a process of its own, without its start.

Five of its six seconds go into importing torch and transformers. Tests that are about what comes before fork
that process from one that has imported them: the same check of the same folder by the same code. How the
product starts it is shown in test_verify.py, test_hub.py and wherever a worker or `serve` runs.
"""

import contextlib
import json
import multiprocessing
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.errors import VerificationError
from core.events import Cancel
from core.export import verify

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["core.evaluate.kv_memory", "core.export.verify", "core.weights.tokenizer"])
# often enough that a test can stop it in the middle
_LOOK_SECONDS = 0.005


@contextlib.contextmanager
def forked_verification(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Within it, `verify` asks a forked process."""
    with monkeypatch.context() as patched:
        patched.setattr(verify, "_ask", _ask)
        yield


def _ask(folder: Path, expected: Path, cancel: Cancel) -> verify.Verified:
    with tempfile.NamedTemporaryFile() as said:
        process = _CONTEXT.Process(target=_answer, args=(folder, expected, said.name))
        process.start()
        try:
            while process.exitcode is None:
                process.join(_LOOK_SECONDS)
                cancel.check()
        finally:
            process.kill()
            process.join()
        if process.exitcode:
            raise VerificationError(f"the exported model does not load (exit code {process.exitcode})")
        return verify.Verified.model_validate(json.loads(Path(said.name).read_bytes()))


def _answer(folder: Path, expected: Path, file: str) -> None:
    """In the forked process: what `python -m core.export.verify` does, said to a file."""
    output = os.open(file, os.O_WRONLY)
    os.dup2(output, 1)
    code = verify.main(folder, expected)
    # print is buffered, and a forked process ends without flushing
    print(end="", flush=True)
    os._exit(code)
