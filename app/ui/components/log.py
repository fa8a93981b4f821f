# SPDX-License-Identifier: Apache-2.0
"""The live log: events as lines, read by cursor so that nothing is fetched twice."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from app.ui.format import number
from app.ui.strings import STAGE_WORDS
from core.events import Figure, Log, Metric, Progress, StageStarted
from core.store.views import StoredEvent

# more lines than this are history: the whole log is one link away
SHOWN_LINES = 400


@dataclass(frozen=True)
class LogState:
    """What the page has shown so far."""

    cursor: int = 0
    lines: tuple[str, ...] = ()

    def with_events(self, events: Sequence[StoredEvent]) -> "LogState":
        """The state after `events`, oldest lines dropped."""
        if not events:
            return self
        new = tuple(line for event in events if (line := _line(event)))
        return LogState(events[-1].id, (self.lines + new)[-SHOWN_LINES:])


def log_view(state: LogState, job_id: str) -> str:
    """The lines in a frame of their own that starts at the end."""
    if not state.lines:
        return '<p class="empty">The log starts with the job.</p>'
    link = f'<a href="/api/v1/jobs/{escape(job_id)}/log">whole log</a>'
    # a reversed column keeps its scroll position at the newest line without any script
    body = "".join(reversed(state.lines))
    return f'<div class="frame log" tabindex="0">{body}</div><p class="caption">{link}</p>'


def _line(stored: StoredEvent) -> str:
    clock = stored.at.astimezone().strftime("%H:%M:%S")
    match stored.event:
        case Log(level=level, message=message):
            return f'<div class="{level}"><time>{clock}</time>{escape(message)}</div>'
        case StageStarted(stage=stage):
            return f'<div class="stage"><time>{clock}</time>{STAGE_WORDS[stage]}</div>'
        case Progress(done=done, total=total, message=message):
            return f"<div><time>{clock}</time>{done}/{total} {escape(message)}</div>"
        case Metric(name=name, value=value, unit=unit):
            return f"<div><time>{clock}</time>{escape(name)} = {number(value)} {escape(unit)}</div>"
        case Figure():
            return ""
