# SPDX-License-Identifier: Apache-2.0
"""`mla-workbench jobs …`: the jobs of the workbench that uses the same data folder or database."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from app.cli.output import reported, show
from app.services.bell import CeleryBell
from core.settings import load_settings
from core.store import Store, open_store
from core.store.views import JobView

cli = typer.Typer(no_args_is_help=True, help="List and steer the workbench's jobs.")

Job = Annotated[str, typer.Argument(help="the job's id")]
Json = Annotated[bool, typer.Option("--json", help="print one JSON object on stdout and nothing else")]


@contextmanager
def _store(json: bool) -> Iterator[Store]:
    with reported(json):
        store = open_store(load_settings(), migrate=True)
        try:
            yield store
        finally:
            store.close()


@cli.command("list")
def list_jobs(text: str = "", limit: int = 20, json: Json = False) -> None:
    """The newest jobs."""
    with _store(json) as store:
        jobs = store.list(text=text, limit=limit)
        lines = [_line(job) for job in jobs] or ["no jobs yet: start the page with 'mla-workbench serve'"]
        show({"jobs": [job.model_dump(mode="json") for job in jobs]}, json, lines)


@cli.command("show")
def show_job(job: Job, json: Json = False) -> None:
    """One job: state, progress, figures, and why it failed."""
    with _store(json) as store:
        view = store.get(job)
        lines = [_line(view)]
        lines += [f"  {name} {value:g}" for name, value in sorted(view.metrics.items())]
        lines += [f"  {view.reason}", f"  fix: {view.hint}"] if view.reason else []
        show(view.model_dump(mode="json"), json, lines)


@cli.command()
def cancel(job: Job, json: Json = False) -> None:
    """Stop a job; finished layers are kept for resume."""
    with _store(json) as store:
        view = store.request_cancel(job)
        show(view.model_dump(mode="json"), json, [_line(view)])


@cli.command()
def pause(job: Job, json: Json = False) -> None:
    """Let a job rest; resume continues after its last finished layer."""
    with _store(json) as store:
        view = store.request_pause(job)
        show(view.model_dump(mode="json"), json, [_line(view)])


@cli.command()
def resume(job: Job, json: Json = False) -> None:
    """Queue a stopped or paused job again; it continues after its last finished layer."""
    with _store(json) as store:
        view = store.resume(job)
        CeleryBell(load_settings()).ring(job)
        show(view.model_dump(mode="json"), json, [_line(view)])


@cli.command()
def logs(job: Job) -> None:
    """The log of a job."""
    with _store(False) as store:
        store.get(job)
        path = load_settings().jobs_dir / job / "log.txt"
        print(path.read_text(errors="replace") if path.is_file() else "nothing was logged yet", end="")


def _line(job: JobView) -> str:
    progress = f"{job.stage} {job.done}/{job.total}" if job.stage and job.total else job.stage
    return f"{job.id}  {job.state:11}  {job.spec.model}  {job.spec.preset or 'custom'}  {progress}"
