# SPDX-License-Identifier: Apache-2.0
"""The command line: mistakes get a message, two runs do not destroy each other, JSON is JSON."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.cli.conversion import only_writer
from app.cli.output import show
from core.errors import OutputError, SpecError, WorkbenchError
from core.settings import Settings, load_settings
from core.store import open_store

_THREADS = """
from app.cli.conversion import limit_threads
from core.settings import load_settings
limit_threads(load_settings())
import torch
print(torch.get_num_threads())
"""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "99999"),
        ("PORT", "many"),
        ("THREADS", "-1"),
        ("CONCURRENCY", "0"),
        ("LEASE_SECONDS", "6"),
        ("HEARTBEAT_SECONDS", "20"),
    ],
)
def test_a_wrong_variable_is_named_with_the_fix(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lease of 6 s does not fit the default beat of 5 s: the beat is the field that is named."""
    monkeypatch.setenv(f"MLA_{name}", value)
    with pytest.raises(SpecError) as caught:
        load_settings()
    field = "heartbeat_seconds" if name == "LEASE_SECONDS" else name.lower()
    assert caught.value.field == field
    assert f"MLA_{field.upper()}" in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    "command",
    [
        ["app.cli.main", "doctor"],
        ["app.cli.main", "jobs", "list"],
        ["app.cli.main", "inspect", "demo"],
        ["app.serve"],
    ],
)
def test_no_command_answers_a_wrong_variable_with_a_traceback(command: list[str]) -> None:
    module, *arguments = command
    code = f"import sys; sys.argv[1:] = {arguments!r}; from app.cli import main; main()"
    words = ["-m", module] if module == "app.serve" else ["-c", code]
    answer = subprocess.run(
        [sys.executable, *words], env=os.environ | {"MLA_PORT": "99999"}, capture_output=True, text=True
    )
    assert answer.returncode == 1
    assert "MLA_PORT" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_worker_answers_a_wrong_variable_with_a_message() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "celery", "--app", "workers.celery_app", "worker"],
        env=os.environ | {"MLA_PORT": "99999"},
        capture_output=True,
        text=True,
    )
    assert answer.returncode
    assert "MLA_PORT" in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize("url", ["nonsense", "sqlite//x", "mysql://x/y"])
def test_a_wrong_database_url_is_named(url: str, tmp_path: Path) -> None:
    with pytest.raises(WorkbenchError) as caught:
        open_store(Settings(data_dir=tmp_path, database_url=url))
    assert "MLA_DATABASE_URL" in caught.value.hint


def test_a_second_run_is_refused_while_the_first_writes(tmp_path: Path) -> None:
    """Then the lock is free again, and nothing is left beside the output."""
    out = tmp_path / "out"
    with only_writer(out), pytest.raises(OutputError) as caught, only_writer(tmp_path / "." / "out"):
        pytest.fail("both hold the lock")
    assert caught.value.field == "out"
    assert caught.value.hint
    with only_writer(out):
        assert list(tmp_path.iterdir()) == []


def test_a_refused_run_does_not_take_the_lock_of_the_first(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with only_writer(out):
        for _ in range(2):
            with pytest.raises(OutputError), only_writer(out):
                pytest.fail("both hold the lock")


def test_threads_of_the_settings_hold_for_torch() -> None:
    answer = subprocess.run(
        [sys.executable, "-c", _THREADS],
        env=os.environ | {"MLA_THREADS": "1", "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.strip() == "1"


def test_an_infinite_number_is_null_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    """`Infinity` is not JSON: a program that reads the answer would fail on it."""
    show({"metrics": {"perplexity": float("inf"), "kl": [float("nan"), 1.0]}}, True, [])

    def refuse(word: str) -> None:
        raise AssertionError(word)

    said = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert said == {"metrics": {"perplexity": None, "kl": [None, 1.0]}}
