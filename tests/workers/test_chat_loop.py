# SPDX-License-Identifier: Apache-2.0
"""Answers share the time, not the turns: the faster model is ahead, and nobody waits for the other's end."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from core.chat.shelf import Shelf
from core.settings import Settings
from core.store import ChatRecord, open_store
from core.store.chat_views import Sampling, TurnState
from core.store.session import Database
from workers.chat_loop import ChatLoop


class Watching(ChatRecord):
    """The record, which remembers how far everybody was when the first answer ended."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.at_first_end: dict[str, int] = {}

    def finish(self, turn_id: str, host: str, ending: str, **values: Any) -> bool:
        turns = self.read(self.get(turn_id).session)
        self.at_first_end = self.at_first_end or {one.model: one.tokens for one in turns}
        return super().finish(turn_id, host, ending, **values)


def test_equal_time_lets_the_faster_model_be_ahead(tiny_llama: Callable[..., Path], tmp_path: Path) -> None:
    """Four layers beside thirty-two: eight times the work, so three times the time by any clock."""
    fast = str(tiny_llama(max_position_embeddings=2048))
    slow = str(tiny_llama(max_position_embeddings=2048, num_hidden_layers=32))
    settings = Settings(data_dir=tmp_path)
    open_store(settings, migrate=True).close()
    record = Watching(Database(settings.database))
    # greedy random models go on to their limit
    turns = record.ask("2222222222", (slow, fast), "hello", Sampling(temperature=0, max_tokens=150))
    assert record.claim_host("me", 60, 10**9)
    shelf = Shelf(settings, 10**9, torch.device("cpu"))
    ChatLoop(record, "me", shelf, lambda: False, idle_seconds=0.0).run()
    done = [record.get(one.id) for one in turns]
    assert {one.state for one in done} == {TurnState.DONE}, done[0].error + done[1].error
    assert [one.tokens for one in done] == [150, 150]
    assert record.at_first_end[fast] == 150
    assert 5 < record.at_first_end[slow] < 100
    speeds = [one.tokens_per_second for one in done]
    assert speeds[1] is not None
    assert speeds[0] is not None
    assert speeds[1] > 2 * speeds[0]
