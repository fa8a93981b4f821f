# SPDX-License-Identifier: Apache-2.0
"""Alembic's entry: the caller's connection when there is one, else the database of the settings."""

from typing import Literal

from alembic import context
from sqlalchemy import Connection

from core.settings import Settings
from core.store.session import Database
from core.store.tables import Base, Moment, PlainText


def plain_type(kind: str, item: object, autogen_context: object) -> str | Literal[False]:
    """Write our own column types as what the database sees, so that old scripts outlive changes to them."""
    del autogen_context
    if kind != "type":
        return False
    return {Moment: "sa.DateTime(timezone=True)", PlainText: "sa.Text()"}.get(type(item), False)


def run(connection: Connection) -> None:
    """Run the scripts. SQLite cannot alter a column in place, so a batch copies the table there."""
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=True,
        render_item=plain_type,
        transaction_per_migration=False,
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    settings = Settings()
    settings.home.mkdir(parents=True, exist_ok=True)
    with Database(settings.database).connect() as opened:
        run(opened)
