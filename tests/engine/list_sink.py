# SPDX-License-Identifier: Apache-2.0
"""What a job said, kept to be asked about."""

from typing import Any

from core.events import Event


class ListSink:
    """Keeps every event."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: str) -> list[Any]:
        return [event for event in self.events if event.kind == kind]

    @property
    def metrics(self) -> dict[str, float]:
        return {event.name: event.value for event in self.of("metric")}
