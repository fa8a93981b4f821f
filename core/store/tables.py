# SPDX-License-Identifier: Apache-2.0
"""The tables: jobs, their events, metrics and artefacts, and the workers that were seen."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, ForeignKey, Index, Integer, MetaData, String, Text
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from core.store.views import State

# SQLite counts rowids in INTEGER PRIMARY KEY only; PostgreSQL would run out of 32 bits
BIG_ID = BigInteger().with_variant(Integer, "sqlite")


class Moment(TypeDecorator[datetime]):
    """An aware datetime, stored as UTC. SQLite has no time zones, so it goes in and comes out naive there."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive times: they would mean different moments on different machines."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Always aware, always UTC."""
        del dialect
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class PlainText(TypeDecorator[str]):
    """Text without NUL characters: PostgreSQL refuses them, and a log line may hold anything."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Drop the NULs on the way in."""
        del dialect
        return value if value is None else value.replace("\x00", "")


class Base(DeclarativeBase):
    """Constraint names are fixed, so that a migration can drop what an earlier one created."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class JobRow(Base):
    """One job. `state`, the lease and the counters are written by core/store/jobs.py alone."""

    __tablename__ = "jobs"
    __table_args__ = (Index("ix_jobs_state_queued_at", "state", "queued_at"),)

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    state: Mapped[State] = mapped_column(String(16))
    kind: Mapped[str] = mapped_column(String(16))
    model: Mapped[str] = mapped_column(PlainText)
    preset: Mapped[str] = mapped_column(String(64))
    spec: Mapped[dict[str, Any]] = mapped_column(JSON)
    owner: Mapped[str] = mapped_column(String(255))
    created_at: Mapped[datetime] = mapped_column(Moment, index=True)
    queued_at: Mapped[datetime] = mapped_column(Moment)
    rung_at: Mapped[datetime | None] = mapped_column(Moment)
    started_at: Mapped[datetime | None] = mapped_column(Moment)
    finished_at: Mapped[datetime | None] = mapped_column(Moment)
    attempt: Mapped[int] = mapped_column(default=0)
    losses: Mapped[int] = mapped_column(default=0)
    lease_owner: Mapped[str | None] = mapped_column(String(255))
    lease_until: Mapped[datetime | None] = mapped_column(Moment)
    stage: Mapped[str] = mapped_column(String(32), default="")
    stage_started_at: Mapped[datetime | None] = mapped_column(Moment)
    timed_steps: Mapped[int] = mapped_column(default=0)
    progress_at: Mapped[datetime | None] = mapped_column(Moment)
    done: Mapped[int] = mapped_column(default=0)
    total: Mapped[int] = mapped_column(default=0)
    message: Mapped[str] = mapped_column(PlainText, default="")
    reason: Mapped[str] = mapped_column(PlainText, default="")
    hint: Mapped[str] = mapped_column(PlainText, default="")
    log_tail: Mapped[str] = mapped_column(PlainText, default="")
    peak_memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    sweep_id: Mapped[str | None] = mapped_column(String(16), index=True)
    parent_id: Mapped[str | None] = mapped_column(String(16))
    after_id: Mapped[str | None] = mapped_column(String(16), index=True)
    fixes: Mapped[list[dict[str, Any]] | None] = mapped_column(JSON)
    told_at: Mapped[datetime | None] = mapped_column(Moment)


class EventRow(Base):
    """One event of a job. AUTOINCREMENT, or SQLite would hand out the ids of deleted rows again."""

    __tablename__ = "events"
    __table_args__ = (Index("ix_events_job_id_id", "job_id", "id"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(BIG_ID, primary_key=True, autoincrement=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    at: Mapped[datetime] = mapped_column(Moment)
    kind: Mapped[str] = mapped_column(String(16))
    event: Mapped[dict[str, Any]] = mapped_column(JSON)


class MetricRow(Base):
    """The latest value of one number of a job."""

    __tablename__ = "metrics"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(128), primary_key=True)
    position: Mapped[int] = mapped_column()
    value: Mapped[float] = mapped_column()
    unit: Mapped[str] = mapped_column(String(32))
    source: Mapped[str] = mapped_column(String(16))


class ArtefactRow(Base):
    """One file of a finished job's result folder."""

    __tablename__ = "artefacts"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(512), primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))


class WorkerRow(Base):
    """A worker that said it is there, with room for `slots` jobs; `is_stopping` asks those to leave."""

    __tablename__ = "workers"

    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    device: Mapped[str] = mapped_column(String(128))
    slots: Mapped[int] = mapped_column()
    seen_at: Mapped[datetime] = mapped_column(Moment)
    is_stopping: Mapped[bool] = mapped_column(default=False)
    job_id: Mapped[str | None] = mapped_column(String(16))
