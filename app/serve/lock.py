# SPDX-License-Identifier: Apache-2.0
"""One workbench per data folder, and one program per port."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.errors import WorkbenchError


@contextmanager
def only_one(home: Path) -> Iterator[None]:
    """Hold the data folder; raises WorkbenchError when another process does. A crash lets go of it."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        file = (home / "serve.lock").open("a+")
    except OSError as error:
        raise WorkbenchError(
            f"the data folder {home} cannot be written: {error.strerror}",
            hint="set MLA_DATA_DIR to a folder of yours",
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise WorkbenchError(
                f"another workbench (process {file.read().strip() or 'unknown'}) uses {home}",
                hint="stop it first, or set MLA_DATA_DIR to another folder",
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def free_port(host: str, port: int) -> int:
    """`port` if it can be listened on (0 picks one); raises WorkbenchError when it is taken."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            # as the web server does: connections of a run that just ended do not count
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return int(probe.getsockname()[1])
    except OSError as error:
        raise WorkbenchError(
            f"port {port} on {host} cannot be used: {error.strerror}",
            hint=f"choose another one, as in: PORT={port + 1} make run",
        ) from error
