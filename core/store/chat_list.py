# SPDX-License-Identifier: Apache-2.0
"""Which conversations there are: what each began with, who answers, when it was last changed."""

from collections import defaultdict

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.store.chat_tables import ChatTurnRow
from core.store.chat_views import Conversation


def conversations(session: Session, limit: int) -> list[Conversation]:
    """The newest `limit`, the one changed last first."""
    changed = func.max(ChatTurnRow.updated_at)
    newest = session.execute(
        select(ChatTurnRow.session, func.max(ChatTurnRow.turn), changed)
        .group_by(ChatTurnRow.session)
        .order_by(changed.desc(), ChatTurnRow.session)
        .limit(limit)
    ).all()
    # the first turn alone: the messages of later ones repeat everything that was said
    first = select(ChatTurnRow).where(
        ChatTurnRow.session.in_([one for one, _, _ in newest]), ChatTurnRow.turn == 1
    )
    begins: dict[str, list[ChatTurnRow]] = defaultdict(list)
    for row in session.scalars(first.order_by(ChatTurnRow.place)):
        begins[row.session].append(row)
    return [
        Conversation(
            session=name,
            prompt=begins[name][0].messages[-1]["content"],
            models=tuple(row.model for row in begins[name]),
            turns=turns,
            updated_at=at,
        )
        for name, turns, at in newest
    ]


def count(session: Session) -> int:
    """How many conversations there are."""
    return session.scalar(select(func.count(ChatTurnRow.session.distinct()))) or 0
