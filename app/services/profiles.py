# SPDX-License-Identifier: Apache-2.0
"""The stored profiles: what they are of, what they take, and removing one."""

import re
import shutil
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field

from app.services.errors import NotFoundError
from app.services.workbench import Workbench
from core.errors import StateError
from core.profiles import FILE, Profile, load_profile
from core.quota import folder_bytes
from core.settings import Settings
from core.spec import Frozen
from core.store.views import ACTIVE

# the start of a fingerprint; ".partial" is one that is being made, or was given up
_NAME = re.compile(r"[0-9a-f]{8,64}(\.partial)?")


class StoredProfile(Frozen):
    """One folder of profiles/."""

    name: str = Field(description="its folder")
    model: str = Field(description="empty for one that is not finished, or of another version")
    text: str
    tokens: int
    bytes: int
    made_at: datetime


def stored_profiles(settings: Settings) -> list[StoredProfile]:
    """Every profile folder, the newest first."""
    root = settings.home / "profiles"
    folders = [one for one in root.iterdir() if _is_ours(one)] if root.is_dir() else []
    return sorted(map(_described, folders), key=lambda one: one.made_at, reverse=True)


def delete_profile(workbench: Workbench, name: str) -> int:
    """Remove a profile; returns the bytes given back. Raises StateError while a job may be reading it."""
    folder = workbench.settings.home / "profiles" / name
    if not _NAME.fullmatch(name) or not folder.is_dir():
        raise NotFoundError(f"there is no profile '{name}'", hint="see /api/v1/profiles", field="name")
    if workbench.store.count(states=ACTIVE):
        raise StateError(
            "a job is running and may be reading this profile", hint="wait until it has ended, or pause it"
        )
    size = folder_bytes(folder)
    shutil.rmtree(folder)
    workbench.disk.forget()
    return size


def _is_ours(folder: Path) -> bool:
    return folder.is_dir() and _NAME.fullmatch(folder.name) is not None


def _described(folder: Path) -> StoredProfile:
    found = _load(folder)
    return StoredProfile(
        name=folder.name,
        model=found.model if found else "",
        text=found.text if found else "",
        tokens=found.tokens if found else 0,
        bytes=folder_bytes(folder),
        made_at=datetime.fromtimestamp(folder.stat().st_mtime, UTC),
    )


def _load(folder: Path) -> Profile | None:
    if not (folder / FILE).is_file():
        return None
    try:
        return load_profile(folder)
    except StateError:
        return None  # of another version: its bytes are there all the same
