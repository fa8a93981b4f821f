# SPDX-License-Identifier: Apache-2.0
"""Which ended jobs somebody outside still has to hear of. Taking one marks it: nobody is told twice."""

from datetime import datetime

from sqlalchemy import CursorResult, select, update
from sqlalchemy.orm import Session

from core.store import queries
from core.store.clock import now
from core.store.tables import JobRow
from core.store.views import FINAL, JobView


def take_ended(session: Session, since: datetime) -> list[JobView]:
    """Jobs that ended after `since` and were not taken yet; of several callers one gets each."""
    is_new = JobRow.state.in_(FINAL), JobRow.told_at.is_(None), JobRow.finished_at > since
    taken = []
    for job_id in session.scalars(select(JobRow.id).where(*is_new).order_by(JobRow.finished_at)).all():
        won = session.execute(update(JobRow).where(JobRow.id == job_id, *is_new).values(told_at=now()))
        assert isinstance(won, CursorResult)
        if won.rowcount == 1:
            taken.append(queries.get(session, job_id))
    return taken
