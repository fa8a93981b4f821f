# SPDX-License-Identifier: Apache-2.0
"""The scripts lead exactly to the tables the program uses, forwards and back, on both databases."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect

from core.errors import WorkbenchError
from core.settings import Settings
from core.spec import JobSpec
from core.store import Store, migrate, open_store
from core.store.session import Database
from core.store.tables import Base


def test_upgrade_head_leaves_no_difference_to_the_tables(store: Store, settings: Settings) -> None:
    database = Database(settings.database)
    with database.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, Base.metadata) == []
    database.close()


def test_downgrade_base_takes_everything_away_and_upgrade_brings_it_back(settings: Settings) -> None:
    database = Database(settings.database)
    for _ in range(2):
        with database.connect() as connection:
            migrate.upgrade(connection)
        with database.connect() as connection:
            assert set(Base.metadata.tables) <= set(inspect(connection).get_table_names())
            migrate.downgrade(connection, "base")
        with database.connect() as connection:
            assert set(inspect(connection).get_table_names()) <= {"alembic_version"}
    database.close()


def test_migrating_again_keeps_the_jobs(store: Store, settings: Settings, spec: JobSpec) -> None:
    job = store.submit(spec)
    again = open_store(settings, migrate=True)
    assert again.get(job.id) == job
    again.close()


def test_a_database_that_was_never_set_up_is_said_to_be(settings: Settings) -> None:
    with pytest.raises(WorkbenchError, match="not set up") as caught:
        open_store(settings)
    assert "serve" in caught.value.hint


def test_an_unreachable_or_unknown_database_is_a_clear_error(tmp_path: Path) -> None:
    for url in (
        "postgresql://nobody@127.0.0.1:1/none",
        "mysql://x@y/z",
        f"sqlite:///{tmp_path}/no/such/dir.db",
    ):
        with pytest.raises(WorkbenchError) as caught:
            open_store(Settings(data_dir=tmp_path, database_url=url))
        assert "MLA_DATABASE_URL" in caught.value.hint


def test_the_wheel_carries_the_scripts(tmp_path: Path) -> None:
    """An installed package migrates too: alembic reads its scripts from files."""
    root = Path(__file__).parents[2]
    copy = tmp_path / "source"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "migrations", "core", "app", "workers"):
        (copy / name).symlink_to(root / name)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    subprocess.run([*command, "-w", str(tmp_path), str(copy)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    needed = {path.relative_to(root).as_posix() for path in (root / "migrations").rglob("*.py")}
    assert needed | {"migrations/script.py.mako", "migrations/alembic.ini"} <= names
