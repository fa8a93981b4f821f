# SPDX-License-Identifier: Apache-2.0
"""How much of the disk the workbench itself may fill: jobs and profiles of one data folder."""

from collections.abc import Iterable
from pathlib import Path

from core.errors import OutputError
from core.settings import Settings


class QuotaError(OutputError):
    """The workbench would take more disk than it was given."""

    reason = "quota exceeded"


def folder_bytes(folder: Path) -> int:
    """What the files under `folder` take on the disk."""
    return sum(file_bytes(file) for file in folder.rglob("*")) if folder.is_dir() else 0


def file_bytes(file: Path) -> int:
    """What a file takes on the disk; nothing when it is not there any more."""
    try:
        state = file.lstat()
    except FileNotFoundError:
        return 0
    return state.st_blocks * 512


def stored_bytes(settings: Settings) -> int:
    """What counts against the quota: every job's folder, every profile, and what teachers said."""
    folders = settings.jobs_dir, settings.home / "profiles", settings.teachers_dir
    return sum(map(folder_bytes, folders))


def check_quota(settings: Settings, used: int, needed: int) -> None:
    """Raise QuotaError when `needed` bytes more than `used` are too many."""
    quota = settings.quota_bytes
    if quota is not None and used + needed > quota:
        raise QuotaError(
            f"this job needs about {_gb(needed)}, and {_gb(used)} of the quota of {_gb(quota)} are taken",
            hint="delete jobs or profiles on the Jobs page, or raise MLA_QUOTA_GB",
            field="model",
        )


def check_room(settings: Settings, folders: Iterable[Path], needed: int) -> None:
    """As `check_quota` for work inside the data folder; what `folders` hold already is part of `needed`."""
    own = [folder for folder in folders if folder.is_relative_to(settings.home)]
    if own and settings.quota_bytes is not None:
        check_quota(settings, stored_bytes(settings) - sum(map(folder_bytes, own)), needed)


def _gb(size: float) -> str:
    return f"{size / 1e9:.2f} GB" if size < 1e10 else f"{size / 1e9:,.0f} GB"
