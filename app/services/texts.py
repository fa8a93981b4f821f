# SPDX-License-Identifier: Apache-2.0
"""Whether the texts of a request can be read, asked before it is queued."""

import threading
from collections.abc import Callable

from app.services.roots import check_text_path
from app.services.text_names import resolve
from core.calibrate.pictures import check_calibration
from core.calibrate.text import NAMED, check_text, existing_file, text_parts
from core.errors import TextError
from core.further.spec import Measurements
from core.heal.documents import check_source
from core.heal.mix import Source, read_mix
from core.settings import Settings
from core.spec import Healing, JobSpec


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
        if spec.heal is not None:
            self._check_lessons(spec.heal, settings)

    def _check_lessons(self, healing: Healing, settings: Settings) -> None:
        """Every text of the mix that a healing learns from."""

        def check_lesson(name: str) -> None:
            check_source(Source(name, 1.0), healing.text_field)

        for one in read_mix(healing.text):
            check_text_path(settings, one.name, "heal.text")
            name = resolve(settings, one.name, "heal.text")
            self._check_one(name, "heal.text", check_lesson, healing.text_field)

    def check_measured(self, asked: Measurements, settings: Settings) -> None:
        """As `check`, for the texts of an evaluation."""
        essay = [("evaluate.essay", asked.essay)] if asked.retrieval else []
        for field, name in (*(("evaluate.texts", one) for one in asked.texts), *essay):
            check_text_path(settings, name, field)
            self._check_one(resolve(settings, name, field), field, check_text)

    def _check_one(self, name: str, field: str, check: Callable[[str], None], about: str = "") -> None:
        """`about` is what `check` depends on beside the text."""
        key = (*_key(name), check.__name__ + about)
        with self._lock:
            if key in self._readable:
                return
        try:
            check(name)
        except TextError as error:
            # a record without its text is wrong beside another box than the text
            own = error.field if (error.field or "").startswith(f"{field}_") else field
            raise TextError(error.message, hint=error.hint, field=own) from error
        with self._lock:
            self._readable.add(key)


def _key(name: str) -> tuple[str, int, int]:
    path = None if name in NAMED else existing_file(name)
    if path is None:
        return name, 0, 0
    state = path.stat()
    return str(path), state.st_size, state.st_mtime_ns
