# SPDX-License-Identifier: Apache-2.0
"""Everything a request needs, handed over: settings, the record, the bell and what is remembered."""

from dataclasses import dataclass, field
from pathlib import Path

from app.services.bell import WebBell
from app.services.crowd import Crowd
from app.services.facts import FactsCache
from app.services.model_sources import ModelSources
from app.services.overlaps import Overlaps
from app.services.predictions import ProfileCache
from app.services.push_state import Pushes
from app.services.recent import Recent
from app.services.texts import TextCache
from app.services.tokens import TokenCounts
from core.settings import Settings
from core.store import Store


@dataclass(frozen=True)
class Workbench:
    """One installation as the web process sees it."""

    settings: Settings
    store: Store
    bell: WebBell
    facts: FactsCache = field(default_factory=FactsCache)
    profiles: ProfileCache = field(default_factory=ProfileCache)
    texts: TextCache = field(default_factory=TextCache)
    tokens: TokenCounts = field(default_factory=TokenCounts)
    sources: ModelSources = field(default_factory=ModelSources)
    overlaps: Overlaps = field(default_factory=Overlaps)
    recent: Recent = field(default_factory=Recent)
    # walking a folder of many jobs takes longer than reading rows, and disks fill slowly
    disk: Recent = field(default_factory=lambda: Recent(10.0))
    pushes: Pushes = field(default_factory=Pushes)
    crowd: Crowd = field(default_factory=Crowd)

    def result_folder(self, job_id: str) -> Path:
        """Where a finished job's files are."""
        return self.settings.jobs_dir / job_id / "result"

    def log_file(self, job_id: str) -> Path:
        """What the job's process printed; may not exist yet."""
        return self.settings.jobs_dir / job_id / "log.txt"
