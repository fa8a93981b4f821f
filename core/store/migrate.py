# SPDX-License-Identifier: Apache-2.0
"""Alembic from inside the program: the scripts are found beside this package, installed or not."""

from importlib.resources import files

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

# any number will do, as long as everybody who migrates this database takes the same lock
_LOCK = 5_063_771


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Bring the tables up to `revision`, in the caller's transaction."""
    _lock(connection)
    command.upgrade(config(connection), revision)


def downgrade(connection: Connection, revision: str) -> None:
    """Take the tables back to `revision`, in the caller's transaction."""
    _lock(connection)
    command.downgrade(config(connection), revision)


def config(connection: Connection) -> Config:
    """Alembic's configuration with an open connection instead of a URL."""
    settings = Config()
    # `files` takes the name: core knows where the scripts are without importing them
    settings.set_main_option("script_location", str(files("migrations")).replace("%", "%%"))
    settings.attributes["connection"] = connection
    return settings


def _lock(connection: Connection) -> None:
    """Two programs that start at once must not both migrate. SQLite's write transaction is lock enough."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
