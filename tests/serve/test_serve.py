# SPDX-License-Identifier: Apache-2.0
"""`serve` starts everything, heals what dies, and leaves nothing behind."""

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from app.services.bell import CeleryBell
from core.settings import Settings
from core.spec import Calibration, JobSpec
from core.store import open_store
from core.store.views import FINAL, State
from tests.serve.serving import Serving, answers, is_alive, words_of

pytestmark = pytest.mark.process

Serve = Callable[[Settings], Serving]
# port 0 lets the system choose, so that two test runs cannot meet
ANY_PORT = 0
PARTS = ("valkey-server", "uvicorn", "workers.celery_app", "workers.chat_app")


def settings_for(home: Path) -> Settings:
    return Settings(data_dir=home, port=ANY_PORT, lease_seconds=3.0, heartbeat_seconds=0.5, threads=1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_starts_soon_and_stops_all_it_started(serve: Serve, home: Path, number: signal.Signals) -> None:
    started = time.monotonic()
    serving = serve(settings_for(home))
    url = serving.wait_for_page()
    assert answers(url)
    # the promise is 10 s on an idle machine; the tests share two cores with other tests
    assert time.monotonic() - started < 60
    family = serving.family()
    assert {serving.part(word) is not None for word in PARTS} == {True}

    started = time.monotonic()
    serving.process.send_signal(number)
    assert serving.process.wait(15) == 0
    assert time.monotonic() - started < 12
    serving.wait(lambda: not any(map(is_alive, family)), seconds=1)
    assert not answers(url)
    assert not settings_for(home).broker_socket.parent.exists()


def test_kill_9_of_any_part_heals_by_itself(serve: Serve, home: Path) -> None:
    serving = serve(settings_for(home))
    url = serving.wait_for_page()
    for word in PARTS:
        before = serving.part(word)
        assert before is not None
        before.kill()
        serving.wait(lambda word=word, before=before: serving.part(word) not in (None, before))
    serving.wait(lambda: answers(url))
    # and the parts work together again
    store = open_store(settings_for(home))
    job_id = store.submit(JobSpec(model=str(home / "missing"))).id
    serving.wait(lambda: store.get(job_id).state in FINAL)
    store.close()


def test_kill_9_of_serve_itself_leaves_no_orphans_and_no_lock(serve: Serve, home: Path) -> None:
    serving = serve(settings_for(home))
    serving.wait_for_page()
    family = serving.family()
    assert len(family) >= len(PARTS)
    serving.process.kill()
    serving.process.wait()
    psutil.wait_procs(family, timeout=12)
    assert not [process for process in family if is_alive(process)]
    again = serve(settings_for(home))
    assert answers(again.wait_for_page())


def test_a_running_job_survives_ctrl_c_and_goes_on_after_the_next_start(serve: Serve, home: Path) -> None:
    settings = settings_for(home)
    serving = serve(settings)
    serving.wait_for_page()
    store = open_store(settings)
    # long enough to be caught, short enough to be stopped soon: layers of some tenths of a second
    job_id = store.submit(JobSpec(model="demo", calibration=Calibration(tokens=8192))).id
    assert CeleryBell(settings).ring(job_id)
    serving.wait(lambda: store.get(job_id).stage == "calibrating")
    family = serving.family()
    assert any("workers.run_job" in words_of(process) for process in family)
    serving.process.send_signal(signal.SIGINT)
    assert serving.process.wait(15) == 0
    assert not any(map(is_alive, family))
    assert store.get(job_id).state in (State.INTERRUPTED, State.QUEUED)

    again = serve(settings)
    again.wait_for_page()
    again.wait(lambda: store.get(job_id).attempt == 2)
    store.request_cancel(job_id)
    again.wait(lambda: store.get(job_id).state is State.CANCELLED)
    store.close()


def test_a_second_one_on_the_same_folder_is_refused(serve: Serve, home: Path) -> None:
    first = serve(settings_for(home))
    first.wait_for_page()
    second = serve(settings_for(home))
    assert second.process.wait(60) != 0
    assert f"another workbench (process {first.process.pid}) uses {home}" in second.text
    assert "MLA_DATA_DIR" in second.text
    assert "Traceback" not in second.text
    assert first.process.poll() is None


def test_a_taken_port_is_named_with_the_way_out(serve: Serve, home: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        serving = serve(settings_for(home).model_copy(update={"port": port}))
        assert serving.process.wait(60) != 0
    assert f"port {port}" in serving.text
    assert f"PORT={port + 1} make run" in serving.text
    assert "Traceback" not in serving.text


def test_a_folder_that_cannot_be_written_is_named(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    serving = serve(settings_for(tmp_path / "file"))
    assert serving.process.wait(60) != 0
    assert "cannot be written" in serving.text
    assert "Traceback" not in serving.text


def test_the_broker_is_private(serve: Serve, home: Path) -> None:
    settings = settings_for(home)
    serve(settings).wait_for_page()
    for path in (settings.broker_socket, settings.broker_socket.parent):
        assert path.stat().st_mode & 0o077 == 0
        assert path.stat().st_uid == os.getuid()
