# SPDX-License-Identifier: Apache-2.0
"""A real worker, a real process that answers; whatever happens to it, every turn ends with words."""

import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import pytest

from app.serve.serve import environment_of
from core.chat.naming import PROCESS_BYTES, weight_bytes
from core.settings import Settings
from core.store import Store, open_store
from core.store.chat import new_id
from core.store.chat_views import OPEN, ChatTurn, Sampling, TurnState
from tests.workers.worker_stack import Stack, words_of
from workers.chat_supervisor import supervise_chat

pytestmark = pytest.mark.process

# greedy, because the random model then says the same for ever and never ends by itself
ENDLESS = Sampling(temperature=0, max_tokens=4096)


@pytest.fixture(scope="module")
def models(tiny_llama: Callable[..., Path]) -> tuple[str, str]:
    """Two equal checkpoints with room for long answers."""
    one = tiny_llama(max_position_embeddings=8192)
    return str(one), str(shutil.copytree(one, one.with_name(f"{one.name}-copy")))


def ask(stack: Stack, models: tuple[str, ...], sampling: Sampling, conversation: str = "") -> list[ChatTurn]:
    turns = stack.store.chat.ask(conversation or new_id(), models, "tell me", sampling)
    assert stack.bell.ring_chat()
    return turns


def ended(stack: Stack, turns: list[ChatTurn]) -> list[ChatTurn]:
    stack.wait(lambda: all(stack.store.chat.get(one.id).state not in OPEN for one in turns))
    return [stack.store.chat.get(one.id) for one in turns]


def streaming(stack: Stack, turns: list[ChatTurn], tokens: int = 20) -> None:
    stack.wait(lambda: all(stack.store.chat.get(one.id).tokens >= tokens for one in turns), pause=0.01)


def host_of(pid: int) -> psutil.Process | None:
    """The process that answers, below `pid`."""
    for process in psutil.Process(pid).children(recursive=True):
        if "workers.chat_host" in words_of(process):
            return process
    return None


def test_equal_models_say_the_same_and_grow_as_one_watches(stack: Stack, models: tuple[str, str]) -> None:
    assert host_of(stack.keeper.pids["chat"]) is None, "nobody has asked: torch is nowhere"
    turns = ask(stack, models, Sampling(temperature=1.0, seed=3, max_tokens=300))
    seen: list[tuple[int, int]] = []

    def watch() -> bool:
        now = stack.store.chat.get(turns[0].id)
        if now.kv_bytes and (now.tokens, now.kv_bytes) not in seen:
            seen.append((now.tokens, now.kv_bytes))
        return all(stack.store.chat.get(one.id).state not in OPEN for one in turns)

    stack.wait(watch, pause=0.01)
    first, second = ended(stack, turns)
    assert first.state is second.state is TurnState.DONE, first.error + second.error
    assert first.text == second.text != ""
    # 300 tokens of this model take half a second at least: five writes of a tenth of a second
    assert len(seen) >= 3
    assert seen == sorted(seen)
    for one in (first, second):
        assert one.kv_bytes == one.kv_bytes_per_token * one.cached_tokens
        assert one.tokens_per_second is not None
    host = stack.store.chat.host()
    assert host is not None
    assert {one.model for one in host.models} == set(models)
    stack.wait(lambda: (found := stack.store.chat.host()) and found.memory_bytes > 100e6)


def test_stop_is_heard_within_a_token_and_keeps_the_text(stack: Stack, models: tuple[str, str]) -> None:
    turns = ask(stack, models, ENDLESS)
    streaming(stack, turns)
    stack.store.chat.request_stop(turns[0].session)
    stopped = ended(stack, turns)
    assert {one.state for one in stopped} == {TurnState.STOPPED}
    assert all(20 <= one.tokens < ENDLESS.max_tokens and one.text for one in stopped)


def test_a_bad_turn_ends_alone(stack: Stack, models: tuple[str, str], tmp_path: Path) -> None:
    """A broken checkpoint beside a good one, and the same process goes on."""
    broken = Path(shutil.copytree(models[0], tmp_path / "broken"))
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    first = ended(stack, ask(stack, models[:1], Sampling(max_tokens=3)))
    before = host_of(stack.keeper.pids["chat"])
    good, bad, missing = ended(
        stack, ask(stack, (models[0], str(broken), str(tmp_path / "nowhere")), Sampling(max_tokens=3))
    )
    assert first[0].state is good.state is TurnState.DONE
    assert bad.state is missing.state is TurnState.FAILED
    assert "model.safetensors" in bad.error
    assert "fetch" in bad.hint
    assert "nowhere" in missing.error
    assert before is not None
    assert host_of(stack.keeper.pids["chat"]) == before


def test_kill_9_in_the_middle_is_told_and_the_next_prompt_is_answered(
    stack: Stack, models: tuple[str, str]
) -> None:
    turns = ask(stack, models, ENDLESS)
    streaming(stack, turns)
    host = host_of(stack.keeper.pids["chat"])
    assert host is not None
    host.kill()
    failed = ended(stack, turns)
    assert {one.state for one in failed} == {TurnState.FAILED}
    assert "killed (signal 9)" in failed[0].error
    assert "GB" in failed[0].error
    assert "sk again" in failed[0].hint
    assert failed[0].tokens >= 20, "what was said by then is not taken back"
    (done,) = ended(stack, ask(stack, models[:1], Sampling(max_tokens=3)))
    assert done.state is TurnState.DONE


def test_an_orderly_stop_of_the_worker_ends_its_turns_at_once(stack: Stack, models: tuple[str, str]) -> None:
    turns = ask(stack, models[:1], ENDLESS)
    streaming(stack, turns)
    worker = psutil.Process(stack.keeper.pids["chat"])
    host = host_of(worker.pid)
    assert host is not None
    worker.send_signal(signal.SIGTERM)
    (failed,) = ended(stack, turns)
    assert failed.error == "the chat worker was shut down"
    stack.wait(lambda: not host.is_running(), seconds=10)


@contextmanager
def supervised(
    settings: Settings, models: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Store, list[ChatTurn], threading.Thread]]:
    """The supervisor in a thread, as the worker runs it, until all that was asked has ended."""
    for name, value in environment_of(settings).items():
        monkeypatch.setenv(name, value)
    stopping = threading.Event()
    with closing(open_store(settings, migrate=True)) as store:
        turns = store.chat.ask(new_id(), models, "tell me", Sampling(max_tokens=3))
        thread = threading.Thread(target=supervise_chat, args=(settings, stopping))
        thread.start()
        try:
            deadline = time.monotonic() + 120
            while any(store.chat.get(one.id).state in OPEN for one in turns):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            yield store, [store.chat.get(one.id) for one in turns], thread
        finally:
            stopping.set()
            thread.join()


def test_a_budget_refuses_by_name_evicts_and_an_idle_process_ends(
    models: tuple[str, str],
    tiny_llama: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Room for one and a half models, no more; a second after the last answer nothing is left."""
    large = str(tiny_llama(hidden_size=256))
    room = PROCESS_BYTES + weight_bytes(Path(models[0])) * 1.5
    settings = Settings(data_dir=tmp_path, chat_memory_gb=room / 1e9, chat_idle_minutes=1 / 60, threads=1)
    with supervised(settings, (models[0], large, models[1]), monkeypatch) as (store, turns, thread):
        host = store.chat.host()
        first, refused, second = turns
        assert first.state is second.state is TurnState.DONE, first.error + second.error
        assert refused.state is TurnState.FAILED
        assert large in refused.error
        assert "MLA_CHAT_MEMORY_GB" in refused.hint
        assert host is not None
        assert [one.model for one in host.models] == [models[1]], "the first had to make room"
        thread.join(60)
        assert not thread.is_alive(), "an idle process ends, and its supervisor with it"
        assert store.chat.host() is None


def test_a_process_that_takes_too_much_is_killed_and_says_so(
    models: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A budget that no Python process with torch keeps; it is not tried again and again."""
    settings = Settings(data_dir=tmp_path, chat_memory_gb=0.05, threads=1)
    with supervised(settings, models[:1], monkeypatch) as (_, (failed,), thread):
        assert failed.state is TurnState.FAILED
        assert "more than the 0.1 GB it may take" in failed.error
        assert "MLA_CHAT_MEMORY_GB" in failed.hint
        thread.join(30)
        assert not thread.is_alive()
