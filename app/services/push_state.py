# SPDX-License-Identifier: Apache-2.0
"""How far the pushes are: kept in the web process, nothing of them is stored."""

import threading
from dataclasses import dataclass, field
from typing import Literal

from pydantic import Field

from core.errors import StateError
from core.spec import Frozen


class PushState(Frozen):
    """How far a push is."""

    job_id: str
    repo: str
    state: Literal["running", "done", "failed"]
    file: str = Field("", description="what goes up at the moment")
    done_bytes: int = 0
    total_bytes: int = 0
    address: str = Field("", description="where the model is, once it is there")
    error: str = ""
    hint: str = ""


@dataclass
class Pushes:
    """The last push of every job, for as long as this process lives."""

    _states: dict[str, PushState] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def state_of(self, job_id: str) -> PushState | None:
        """How the last push of the job stands; None when there was none since the start."""
        with self._lock:
            return self._states.get(job_id)

    def begin(self, state: PushState) -> None:
        """Take the place of the job; raises StateError while another push of it goes on."""
        with self._lock:
            known = self._states.get(state.job_id)
            if known is not None and known.state == "running":
                raise StateError(f"job {state.job_id} is being pushed already", hint="wait until it is up")
            self._states[state.job_id] = state

    def update(self, job_id: str, **changes: object) -> None:
        """Say how far it is."""
        with self._lock:
            self._states[job_id] = self._states[job_id].model_copy(update=changes)
