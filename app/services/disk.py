# SPDX-License-Identifier: Apache-2.0
"""Where the disk went, by job, profile and uploaded text, beside what is free and what may be used."""

import shutil
from collections.abc import Hashable

from pydantic import Field

from app.services.profiles import StoredProfile, stored_profiles
from app.services.upload_list import StoredText, stored_texts
from app.services.workbench import Workbench
from core.kv_budget import DTYPE_BYTES
from core.planning import Plan
from core.quota import check_quota, folder_bytes, stored_bytes
from core.spec import Frozen


class JobBytes(Frozen):
    """What one job's folder holds."""

    log: int
    work: int = Field(description="what a resume continues with")
    result: int

    @property
    def total(self) -> int:
        return self.log + self.work + self.result


class DiskUse(Frozen):
    """Bytes of this installation."""

    jobs: dict[str, JobBytes] = Field(description="by job id")
    profiles: tuple[StoredProfile, ...]
    texts: tuple[StoredText, ...]
    teachers: int = Field(0, description="what originals said of texts, which healing reads again")
    models: int = Field(description="models prepared by the workbench: the demo")
    free: int = Field(description="left on the disk of the data folder")
    quota: int | None = Field(description="how much jobs and profiles may take; null means no limit")

    @property
    def taken(self) -> int:
        """What counts against the quota."""
        jobs = sum(job.total for job in self.jobs.values())
        return jobs + sum(one.bytes for one in self.profiles) + self.teachers


def disk_use(workbench: Workbench, version: Hashable = None) -> DiskUse:
    """Walks the data folder: at most once in a few seconds for the same `version` of what is known of it."""
    return workbench.disk.get(("use", version), lambda: _look(workbench))


def job_bytes(workbench: Workbench, job_id: str) -> JobBytes:
    """What the folder of one job holds now."""
    folder = workbench.settings.jobs_dir / job_id
    result, work = folder_bytes(folder / "result"), folder_bytes(folder / "work")
    return JobBytes(log=folder_bytes(folder) - result - work, work=work, result=result)


def check_disk(workbench: Workbench, plan: Plan, copies: int = 1) -> None:
    """Raise QuotaError when `copies` such results would not fit; the worker counts its scratch files too."""
    if workbench.settings.quota_bytes is not None:
        weights = plan.parameters_after * DTYPE_BYTES[plan.dtype]
        check_quota(workbench.settings, stored_bytes(workbench.settings), copies * weights)


def _look(workbench: Workbench) -> DiskUse:
    settings = workbench.settings
    settings.home.mkdir(parents=True, exist_ok=True)
    folders = settings.jobs_dir.iterdir() if settings.jobs_dir.is_dir() else ()
    return DiskUse(
        jobs={folder.name: job_bytes(workbench, folder.name) for folder in folders if folder.is_dir()},
        profiles=tuple(stored_profiles(settings)),
        texts=stored_texts(workbench),
        teachers=folder_bytes(settings.teachers_dir),
        models=folder_bytes(settings.models_dir),
        free=shutil.disk_usage(settings.home).free,
        quota=settings.quota_bytes,
    )
