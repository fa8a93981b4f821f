# SPDX-License-Identifier: Apache-2.0
"""`mla-workbench push`: a finished conversion to the Hub."""

import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from app.cli.output import bytes_text, reported, show
from app.services.push import push as push_files
from core.errors import ModelError
from core.settings import load_settings
from core.store import open_store
from core.store.views import State


def push(
    result: Annotated[str, typer.Argument(help="the id of a finished job, or the folder convert wrote")],
    repo: Annotated[str, typer.Argument(help="owner/name on the Hub; made when it is not there")],
    public: Annotated[
        bool, typer.Option("--public", help="a repository that is made can be seen by all")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="print one JSON object on stdout and nothing else")
    ] = False,
) -> None:
    """Push a finished conversion to the Hub; run it again after an interruption. The token is HF_TOKEN."""
    with reported(json):
        folder = _folder(result)
        files = [
            (one.relative_to(folder).as_posix(), one) for one in sorted(folder.rglob("*")) if one.is_file()
        ]

        def report(name: str, done: int) -> None:
            print(f"{bytes_text(done)} up, {name or 'one commit for all'} …", file=sys.stderr, flush=True)

        address = push_files(files, repo, None, private=not public, report=report)
        show({"address": address, "files": [name for name, _ in files]}, json, [address])


def _folder(result: str) -> Path:
    """Where the result is; raises StateError or ModelError when there is none."""
    given = Path(result).expanduser()
    if (given / "conversion.json").is_file():
        return given
    settings = load_settings()
    with closing(open_store(settings, migrate=True)) as store:
        job = store.get(result)
    folder = settings.jobs_dir / job.id / "result"
    if job.state is not State.DONE or not (folder / "conversion.json").is_file():
        raise ModelError(
            f"job {job.id} is {job.state}: there is no model to push", hint="wait until it is done"
        )
    return folder
