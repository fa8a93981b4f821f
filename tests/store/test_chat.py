# SPDX-License-Identifier: Apache-2.0
"""A chat turn makes each step once, for one host; what a host leaves behind is said in words."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from core.errors import StateError
from core.store import Store
from core.store.chat_views import ChatTurn, LoadedModel, Sampling, TurnState

MODELS = ("demo", "job:abc")
SAMPLING = Sampling(seed=7)


def asked(store: Store, conversation: str = "c", prompt: str = "hello") -> list[ChatTurn]:
    return store.chat.ask(conversation, MODELS, prompt, SAMPLING)


def answered(store: Store, turns: list[ChatTurn], *texts: str) -> None:
    """Each turn taken, started and done with its text."""
    for turn, text in zip(turns, texts, strict=True):
        assert store.chat.take(turn.id, "h")
        assert store.chat.start(turn.id, "h", prompt_tokens=3)
        store.chat.write("h", {turn.id: {"text": text, "tokens": 5}})
        assert store.chat.finish(turn.id, "h", "end")


def states(store: Store, conversation: str = "c") -> list[TurnState]:
    return [one.state for one in store.chat.read(conversation)]


def test_a_prompt_becomes_one_turn_per_model_with_its_own_history(store: Store) -> None:
    answered(store, asked(store), "I am big", "I am small")
    first, second = asked(store, prompt="and now?")
    assert (first.turn, first.place, second.place) == (2, 0, 1)
    assert [one.content for one in first.messages] == ["hello", "I am big", "and now?"]
    assert [one.content for one in second.messages] == ["hello", "I am small", "and now?"]
    assert first.sampling.seed == 7
    assert [one.prompt for one in store.chat.read("c")] == ["hello", "hello", "and now?", "and now?"]


def test_a_prompt_that_was_never_answered_is_not_history(store: Store) -> None:
    """Chat templates want prompts and answers in turn."""
    answered(store, asked(store), "fine", "")
    first, second = asked(store, prompt="and now?")
    assert len(first.messages) == 3
    assert [one.content for one in second.messages] == ["and now?"]


def test_one_conversation_is_answered_once_at_a_time_by_the_same_models(store: Store) -> None:
    turns = asked(store)
    with pytest.raises(StateError, match="still being answered"):
        asked(store)
    answered(store, turns, "a", "b")
    with pytest.raises(StateError, match="other models"):
        store.chat.ask("c", ["demo"], "hello", SAMPLING)


def test_eight_threads_ask_at_once_and_one_is_heard(store: Store) -> None:
    def ask(_: int) -> bool:
        try:
            asked(store)
        except StateError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(ask, range(8))) == 1
    assert len(states(store)) == 2


def test_a_turn_goes_its_way_for_one_host_and_no_other(store: Store) -> None:
    turn = asked(store)[0].id
    assert store.chat.take(turn, "h")
    assert not store.chat.take(turn, "other")
    assert not store.chat.start(turn, "other")
    assert store.chat.start(turn, "h", kv_bytes_per_token=10, kv_bytes_per_token_base=30)
    grown = {"text": "ab", "tokens": 3, "decode_seconds": 0.5, "kv_bytes": 40, "cached_tokens": 4}
    assert store.chat.write("other", {turn: grown}) == {turn}, "what is not one's own must be let go"
    assert store.chat.write("h", {turn: grown}) == set()
    found = store.chat.get(turn)
    assert (found.text, found.kv_bytes, found.kv_bytes_per_token_base) == ("ab", 40, 30)
    # the first of three tokens came with the prompt
    assert found.tokens_per_second == pytest.approx(4.0)
    assert not store.chat.finish(turn, "other", "end")
    assert store.chat.finish(turn, "h", "length")
    assert store.chat.get(turn).ending == "length"
    assert not store.chat.fail(turn, "h", "too late", "")


def test_a_stop_ends_what_waits_at_once_and_tells_the_host_of_the_rest(store: Store) -> None:
    first, second = asked(store)
    store.chat.take(first.id, "h")
    store.chat.start(first.id, "h")
    assert store.chat.request_stop("c") == 2
    assert states(store) == [TurnState.STREAMING, TurnState.STOPPED]
    assert not store.chat.take(second.id, "h")
    assert store.chat.write("h", {first.id: {"text": "so far"}}) == {first.id}
    assert store.chat.stopped(first.id, "h")
    assert store.chat.get(first.id).text == "so far"
    assert store.chat.request_stop("c") == 0


def test_a_deleted_conversation_is_let_go_by_its_host(store: Store) -> None:
    first = asked(store)[0].id
    store.chat.take(first, "h")
    store.chat.start(first, "h")
    store.chat.forget("c")
    assert store.chat.read("c") == []
    assert store.chat.write("h", {first: {"text": "on and on"}}) == {first}


def test_one_host_at_a_time_owns_the_memory(store: Store) -> None:
    with ThreadPoolExecutor(6) as pool:
        won = list(pool.map(lambda n: store.chat.claim_host(f"h{n}", 60, 1000), range(6)))
    assert sum(won) == 1
    owner = f"h{won.index(True)}"
    assert not store.chat.beat("stranger", 60, 5)
    assert store.chat.beat(owner, 60, 5)
    assert store.chat.hold(owner, [LoadedModel(model="demo", bytes=3)])
    host = store.chat.host()
    assert host is not None
    assert (host.budget_bytes, host.memory_bytes) == (1000, 5)
    assert [one.model for one in host.models] == ["demo"]
    store.chat.release_host(owner)
    assert store.chat.host() is None
    assert store.chat.claim_host("next", 60, 1000)


def test_what_a_silent_host_was_answering_fails_and_the_rest_is_rung_for(store: Store) -> None:
    first, second = asked(store)
    assert store.chat.claim_host("h", 0.01, 1000)
    store.chat.take(first.id, "h")
    time.sleep(0.02)
    assert store.chat.must_ring(quiet_seconds=0.0)
    assert states(store) == [TurnState.FAILED, TurnState.WAITING]
    failed = store.chat.get(first.id)
    assert "fell silent" in failed.error
    assert "ask again" in failed.hint
    assert store.chat.write("h", {first.id: {"text": "late"}}) == {first.id}
    assert [one.id for one in store.chat.waiting()] == [second.id]


def test_nobody_is_rung_while_a_host_is_there_and_not_too_often_while_none_is(store: Store) -> None:
    assert not store.chat.must_ring(0.0), "nobody waits"
    asked(store)
    assert store.chat.must_ring(60.0)
    assert not store.chat.must_ring(60.0), "rung a moment ago"
    assert store.chat.claim_host("h", 60, 1000)
    assert not store.chat.must_ring(0.0)


def test_a_host_that_is_replaced_leaves_nothing_open(store: Store) -> None:
    first = asked(store)[0].id
    assert store.chat.claim_host("old", 0.01, 1000)
    store.chat.take(first, "old")
    time.sleep(0.02)
    assert store.chat.claim_host("new", 60, 1000)
    assert store.chat.get(first).state is TurnState.FAILED
    assert store.chat.abandon("new", "gone", "") == 0


def test_a_prompt_nobody_takes_is_given_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five minutes are not waited for: the limit is set to none."""
    monkeypatch.setattr("core.store.chat.GIVE_UP_SECONDS", -1.0)
    asked(store)
    assert not store.chat.must_ring(0.0)
    found = store.chat.read("c")[0]
    assert found.state is TurnState.FAILED
    assert "no chat worker" in found.error
    assert "mla-workbench serve" in found.hint


def test_conversations_are_listed_the_one_changed_last_first(store: Store) -> None:
    """By what they began with, however long they have become."""
    answered(store, asked(store, "old", "how are you?"), "fine", "well")
    answered(store, asked(store, "other", "who are you?"), "me", "you")
    answered(store, asked(store, "old", "and now?"), "still fine", "still well")
    listed = store.chat.conversations(10)
    assert [(one.session, one.prompt, one.turns) for one in listed] == [
        ("old", "how are you?", 2),
        ("other", "who are you?", 1),
    ]
    assert listed[0].models == MODELS
    assert store.chat.conversations(1) == listed[:1]
    assert store.chat.count() == 2
    store.chat.forget("old")
    assert [one.session for one in store.chat.conversations(10)] == ["other"]
    assert store.chat.count() == 1
