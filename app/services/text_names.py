# SPDX-License-Identifier: Apache-2.0
"""Texts in a spec: by the names people use, and by the paths that mean the same to every process."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from app.services import uploads
from app.services.errors import NotFoundError
from app.services.healing_source import job_healed
from app.services.roots import JOB, UPLOAD
from core.calibrate.text import NAMED, existing_file, text_parts
from core.errors import TextError
from core.heal.mix import read_mix, write_mix
from core.settings import Settings
from core.spec import Calibration, Evaluation, JobSpec

T = TypeVar("T", Calibration, Evaluation)
Rename = Callable[[str, str], str]


def pinned(settings: Settings, spec: JobSpec) -> JobSpec:
    """`spec` with the path of every upload and file it names; raises TextError for an upload there is not."""
    return _renamed(spec, lambda name, field: _path_of(settings, name, field))


def with_uploads(settings: Settings, spec: JobSpec) -> JobSpec:
    """`spec` with the path of every upload it names, files as they were given."""
    return _renamed(spec, lambda name, field: resolve(settings, name, field))


def friendly(settings: Settings, spec: JobSpec) -> JobSpec:
    """`spec` with the names of uploads, and of the job it heals, where there are paths."""
    names = {str(uploads.path_of(settings, one)): one.value for one in uploads.uploaded(settings)}
    said = _renamed(spec, lambda name, field: names.get(name, name))
    healed = job_healed(settings, spec)
    if said.heal is None or healed is None:
        return said
    return said.model_copy(update={"heal": said.heal.model_copy(update={"source": f"{JOB}{healed}"})})


def texts_of(spec: JobSpec) -> set[str]:
    """Every text the spec reads."""
    names = [spec.calibration.text, *([spec.evaluation.text] if spec.evaluation else [])]
    healing = {source.name for source in read_mix(spec.heal.text)} if spec.heal else set()
    measured = {*spec.evaluate.texts, spec.evaluate.essay} if spec.evaluate else set()
    return {part for name in names for part in text_parts(name)} | healing | measured


def resolve(settings: Settings, name: str, field: str) -> str:
    """The path of "upload:NAME", anything else as it is; raises TextError, for `field`, without one."""
    if not name.startswith(UPLOAD):
        return name
    try:
        text = uploads.find(settings, name.removeprefix(UPLOAD))
    except NotFoundError as error:
        raise TextError(error.message, hint=error.hint, field=field) from error
    return str(uploads.path_of(settings, text))


def _path_of(settings: Settings, name: str, field: str) -> str:
    found = resolve(settings, name, field)
    path = None if found in NAMED else existing_file(found)
    return found if path is None else str(Path(path).absolute())


def _renamed(spec: JobSpec, rename: Rename) -> JobSpec:
    changes: dict[str, object] = {"calibration": _part(spec.calibration, rename, "calibration.text")}
    if spec.evaluation is not None:
        changes["evaluation"] = _part(spec.evaluation, rename, "evaluation.text")
    if spec.heal is not None:
        mix = [replace(one, name=rename(one.name, "heal.text")) for one in read_mix(spec.heal.text)]
        changes["heal"] = spec.heal.model_copy(update={"text": write_mix(mix)})
    if spec.evaluate is not None:
        texts = tuple(rename(name, "evaluate.texts") for name in spec.evaluate.texts)
        essay = rename(spec.evaluate.essay, "evaluate.essay")
        changes["evaluate"] = spec.evaluate.model_copy(update={"texts": texts, "essay": essay})
    return spec.model_copy(update=changes)


def _part(part: T, rename: Rename, field: str) -> T:
    return part.model_copy(update={"text": "+".join(rename(name, field) for name in text_parts(part.text))})
