# SPDX-License-Identifier: Apache-2.0
"""The queue as a whole, the disk it fills, and the stored profiles."""

from fastapi import APIRouter
from pydantic import BaseModel, Field

from app.api.access import Bench
from app.services.disk import DiskUse, disk_use
from app.services.profiles import StoredProfile, delete_profile, stored_profiles
from app.services.queue import Expected, expected

router = APIRouter(tags=["queue"])


class Freed(BaseModel):
    """What a deletion gave back."""

    bytes: int = Field(description="bytes of disk")


@router.get("/queue")
def queue(bench: Bench) -> list[Expected]:
    """Running and waiting jobs with the time until they start and end, as far as it can be foreseen."""
    return list(expected(bench).values())


@router.get("/disk")
def disk(bench: Bench) -> DiskUse:
    """Bytes by job and by profile, what is free, and the quota."""
    return disk_use(bench)


@router.get("/profiles")
def profiles(bench: Bench) -> list[StoredProfile]:
    """The stored profiles, the newest first."""
    return stored_profiles(bench.settings)


@router.delete("/profiles/{name}")
def remove_profile(bench: Bench, name: str) -> Freed:
    """Remove a profile. 409 while a job runs: it may be reading it."""
    return Freed(bytes=delete_profile(bench, name))
