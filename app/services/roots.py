# SPDX-License-Identifier: Apache-2.0
"""Which files of this machine a request may name.

On loopback the user is the one whose files they are. Behind an address that others reach, a path in a
request is a question about somebody else's disk: only uploads, named texts, the demo, Hub ids and the
folders of MLA_TEXT_ROOTS and MLA_MODEL_ROOTS are answered, and whatever lies outside is refused in the same
words whether it exists or not.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from core.calibrate.text import NAMED, text_parts
from core.errors import ModelError, TextError
from core.heal.mix import HUB
from core.settings import Settings
from core.weights.locate import DEMO

UPLOAD = "upload:"
# a model of ours by the id of its job
JOB = "job:"


def roots_of(setting: str) -> list[Path]:
    """The folders of MLA_TEXT_ROOTS or MLA_MODEL_ROOTS, without links in them."""
    return [Path(one).expanduser().resolve() for one in setting.split(os.pathsep) if one.strip()]


def check_model_path(settings: Settings, model: str) -> None:
    """Raise ModelError when `model` is a folder that this server does not read for others."""
    roots = roots_of(settings.model_roots)
    if model == DEMO or model.startswith(JOB) or not (roots or settings.is_exposed):
        return
    if not _is_path(model) or _is_inside(model, [*roots, *_own_folders(settings)]):
        return
    raise ModelError(
        f"this server does not read the folder '{model[:200]}'",
        hint=f"{_allowed(roots, 'MLA_MODEL_ROOTS')}; the demo and Hub ids always work",
        field="model",
    )


def check_source_path(settings: Settings, source: str, field: str) -> None:
    """Raise ModelError when the converted model `source` is in a folder not read for others."""
    roots = roots_of(settings.model_roots)
    if not (roots or settings.is_exposed) or _is_inside(source, [*roots, *_own_folders(settings)]):
        return
    raise ModelError(
        f"this server does not read the folder '{source[:200]}'",
        hint=f"give job:ID of a finished job, or {_allowed(roots, 'MLA_MODEL_ROOTS')}",
        field=field,
    )


def _own_folders(settings: Settings) -> list[Path]:
    """Where results, the demo and what was fetched from the Hub are: all of them have names, too."""
    from huggingface_hub import constants

    return [settings.jobs_dir, settings.models_dir, Path(constants.HF_HUB_CACHE)]


def check_text_path(settings: Settings, name: str, field: str) -> None:
    """Raise TextError when a part of `name` is a file that this server does not read for others."""
    roots = roots_of(settings.text_roots)
    if not (roots or settings.is_exposed):
        return
    for part in text_parts(name):
        known = part in NAMED or part.startswith((UPLOAD, HUB))
        if not known and not _is_inside(part, [*roots, settings.texts_dir]):
            raise TextError(
                f"this server does not read the file '{name[:200]}'",
                hint=f"upload the text, or {_allowed(roots, 'MLA_TEXT_ROOTS')}; named texts always work",
                field=field,
            )


def _allowed(roots: Sequence[Path], setting: str) -> str:
    if not roots:
        return f"have its folder added to {setting} by who runs the server"
    return f"take one from {setting}: {', '.join(map(str, roots))}"


def _is_path(model: str) -> bool:
    """Whether it can only be a folder, or is one: "owner/name" is a Hub id until there is such a folder."""
    if model.startswith(("/", "~", ".", "\\")) or model.count("/") > 1:
        return True
    try:
        return Path(model).is_dir()
    except (OSError, ValueError):  # a name the system cannot have
        return True


def _is_inside(name: str, roots: Sequence[Path]) -> bool:
    """Where the path leads in the end, after all links."""
    try:
        path = Path(name).expanduser().resolve()
    except (OSError, RuntimeError, ValueError):  # a loop of links, the home of nobody, a name no system has
        return False
    return any(path.is_relative_to(root.resolve()) for root in roots)
