# SPDX-License-Identifier: Apache-2.0
"""A broker in trouble costs a request less than a second and never the job."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.services.bell import CeleryBell
from core.settings import Settings


@pytest.fixture(params=["no socket", "refuses", "never answers"])
def trouble(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    """A broker that is away, in each of the ways it can be."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        url = f"redis://127.0.0.1:{server.getsockname()[1]}/0"
        if request.param == "never answers":
            server.listen(0)
        yield Settings(data_dir=tmp_path, broker_url="" if request.param == "no socket" else url)


def test_ringing_in_vain_is_quick_and_harmless(trouble: Settings) -> None:
    bell = CeleryBell(trouble)
    # the first call of a process also imports the transport
    assert not bell.ring("first")
    for _ in range(3):
        started = time.monotonic()
        assert not bell.ring("abcdefghjk")
        assert time.monotonic() - started < 1.0
    bell.close()
