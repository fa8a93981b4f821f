# SPDX-License-Identifier: Apache-2.0
"""Who can reach the page, and what `doctor` says of a broker that was killed."""

import socket
from pathlib import Path

import pytest

from app.cli.doctor import checks
from core.settings import Settings, is_loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "[::1]", "localhost"])
def test_this_machine_alone_needs_no_warning(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org", ""])
def test_an_address_that_others_reach_is_one_to_warn_of(host: str) -> None:
    assert not is_loopback(host)


def test_a_socket_that_nobody_listens_on_is_no_running_broker(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    settings.broker_socket.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(settings.broker_socket))
    try:
        (broker,) = (check for check in checks(settings) if check.name == "broker")
    finally:
        settings.broker_socket.unlink()
        settings.broker_socket.parent.rmdir()
    assert broker.message == "embedded, starts with serve"
