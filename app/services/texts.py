# SPDX-License-Identifier: Apache-2.0
"""Whether the texts of a request can be read, asked before it is queued."""

import threading
from collections.abc import Callable

from app.services.roots import check_text_path
from app.services.text_names import resolve
from core.calibrate.pictures import check_calibration
from core.calibrate.text import NAMED, check_text, existing_file, text_parts
from core.errors import TextError
from core.settings import Settings
from core.spec import JobSpec


class TextCache:
    """Texts that were readable, by name, size and time of the file: a form asks at every keystroke."""

    def __init__(self) -> None:
        self._readable: set[tuple[str, int, int, str]] = set()
        self._lock = threading.Lock()

    def check(self, spec: JobSpec, settings: Settings) -> None:
        """Raise TextError, with the field it belongs beside, when a text of `spec` cannot be used."""
        check_text_path(settings, spec.calibration.text, "calibration.text")
        for name in text_parts(spec.calibration.text):
            self._check_one(
                resolve(settings, name, "calibration.text"), "calibration.text", check_calibration
            )
        if spec.evaluation is not None:
            check_text_path(settings, spec.evaluation.text, "evaluation.text")
            name = resolve(settings, spec.evaluation.text, "evaluation.text")
            self._check_one(name, "evaluation.text", check_text)

    def _check_one(self, name: str, field: str, check: Callable[[str], None]) -> None:
        key = (*_key(name), check.__name__)
        with self._lock:
            if key in self._readable:
                return
        try:
            check(name)
        except TextError as error:
            raise TextError(error.message, hint=error.hint, field=field) from error
        with self._lock:
            self._readable.add(key)


def _key(name: str) -> tuple[str, int, int]:
    path = None if name in NAMED else existing_file(name)
    if path is None:
        return name, 0, 0
    state = path.stat()
    return str(path), state.st_size, state.st_mtime_ns
