# SPDX-License-Identifier: Apache-2.0
"""What a running job tells the world: frozen values, emitted to a sink, never printed."""

from collections.abc import Mapping
from typing import Annotated, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

Stage = Literal["preparing", "calibrating", "converting", "teaching", "healing", "verifying", "measuring"]
# those of each kind of job, in order
STAGES: Mapping[str, tuple[Stage, ...]] = {
    "convert": ("preparing", "calibrating", "converting", "verifying", "measuring"),
    "profile": ("preparing", "calibrating"),
    "evaluate": ("preparing", "measuring"),
    "heal": ("preparing", "teaching", "healing", "verifying", "measuring"),
}

Source = Literal["measured", "calculated", "predicted", "paper"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StageStarted(_Frozen):
    """A stage begins; `total` steps (layers, windows) are expected, 0 when unknown.

    Of them the first `finished` are an earlier attempt's: they are gone through in no time.
    """

    kind: Literal["stage"] = "stage"
    stage: Stage
    total: int = 0
    finished: int = 0


class Progress(_Frozen):
    """`done` of `total` steps of `stage` are finished; `message` says what the last one did."""

    kind: Literal["progress"] = "progress"
    stage: Stage
    done: int
    total: int
    message: str = ""


class Log(_Frozen):
    """One line for a human."""

    kind: Literal["log"] = "log"
    level: Literal["info", "warning", "error"] = "info"
    message: str


class Metric(_Frozen):
    """One number of the result. `unit` as shown ("bytes/token", "ratio", "nats", "s")."""

    kind: Literal["metric"] = "metric"
    name: str
    value: float
    unit: str = ""
    source: Source = "measured"


class Figure(_Frozen):
    """Data of one plot or table, named ("rope_contribution", "layers"); JSON only, drawn by the page."""

    kind: Literal["figure"] = "figure"
    name: str
    data: dict[str, object]


Event = Annotated[StageStarted | Progress | Log | Metric | Figure, Field(discriminator="kind")]
EVENT: TypeAdapter[Event] = TypeAdapter(Event)


class Sink(Protocol):
    """Where a job's events go: the terminal, a list in a test, rows of the database."""

    def emit(self, event: Event) -> None: ...


class Cancel(Protocol):
    """Asked between layers; raises `core.errors.Cancelled` when the job must stop."""

    def check(self) -> None: ...


class NullSink:
    """Drops every event."""

    def emit(self, event: Event) -> None:
        del event


class NeverCancel:
    """For callers that cannot be cancelled."""

    def check(self) -> None:
        return None
