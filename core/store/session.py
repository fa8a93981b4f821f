# SPDX-License-Identifier: Apache-2.0
"""Connections: SQLite in WAL mode or PostgreSQL through psycopg 3, with separate read and write sessions."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, InterfaceError, OperationalError
from sqlalchemy.orm import Session

from core.errors import WorkbenchError

# longest wait for another writer; a write of ours takes about a millisecond
BUSY_SECONDS = 15.0
_URL_HINT = "set MLA_DATABASE_URL to sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME"


class DatabaseUnavailable(WorkbenchError):
    """The database does not answer; trying again later may help."""

    reason = "database unavailable"


class Database:
    """One engine. `read()` sees a snapshot, `write()` is one transaction that commits at the end."""

    def __init__(self, url: str) -> None:
        self.engine = make_engine(url)
        self._writing = self.engine.execution_options(is_write=True)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session whose changes, if there were any, are thrown away."""
        with _translated(), Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session that commits when the block ends and rolls back when it raises."""
        with _translated(), Session(self._writing, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A bare connection in a write transaction, for migrations."""
        with _translated(), self._writing.begin() as connection:
            yield connection

    def close(self) -> None:
        """Give up every connection."""
        self.engine.dispose()


@contextmanager
def _translated() -> Iterator[None]:
    """Say what callers can act on: nobody else imports SQLAlchemy."""
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        raise DatabaseUnavailable(
            f"the database does not answer: {error.orig}",
            hint="check MLA_DATABASE_URL, or MLA_DATA_DIR, its permissions and the free space",
        ) from error


def make_engine(url: str) -> Engine:
    """An engine for `url`; raises WorkbenchError when it is neither SQLite nor PostgreSQL."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        # the message carries no URL: it may hold a password
        raise WorkbenchError(
            "the database URL cannot be read", hint=_URL_HINT, field="database_url"
        ) from error
    match parsed.get_backend_name():
        case "sqlite":
            return _sqlite(parsed)
        case "postgresql" | "postgres":
            return create_engine(parsed.set(drivername="postgresql+psycopg"), pool_pre_ping=True)
        case other:
            raise WorkbenchError(
                f"databases of type '{other}' are not supported",
                hint=_URL_HINT,
            )


def _sqlite(url: URL) -> Engine:
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS})
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: Any, record: object) -> None:
    """Per connection. The driver's own BEGIN is switched off, since `_begin` chooses which kind."""
    del record
    connection.isolation_level = None
    cursor = connection.cursor()
    # a kill -9 loses nothing with NORMAL in WAL mode; only a power cut can lose the last commits
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    """Writers queue at BEGIN IMMEDIATE: a deferred one that reads first fails with "database is locked"."""
    is_write = connection.get_execution_options().get("is_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_write else "BEGIN")
