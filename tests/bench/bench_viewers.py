# SPDX-License-Identifier: Apache-2.0
"""Fifty people look on while a conversion runs: what that costs, and whether anybody misses anything.

`python tests/bench/bench_viewers.py [viewers]`: starts the workbench, looks once at each page with a real
Chromium to learn what it asks for and how often, then asks the same from that many clients at once, each with
a session of its own. Printed: the web process's share of one core, errors, events missed, and the time of a
conversion with viewers beside the mean of those before and after it without.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
VIEWERS = 50
WATCHED_SECONDS = 20
# a page asks several things while it opens; afterwards what it repeats most rarely comes twice in this time
OPENING_SECONDS, LEARNED_SECONDS = 6, 34
# long enough to be a conversion, short enough to be done three times
JOB = {
    "model": "demo",
    "preset": "quality",
    "calibration": {"tokens": 8192, "fisher_tokens": 2048, "refit_tokens": 2048},
    "evaluation": None,
}


@dataclass(frozen=True)
class Poll:
    """One request that an open page repeats, and how often."""

    body: dict[str, Any]
    seconds: float


@dataclass
class Seen:
    """What the viewers got."""

    answers: int = 0
    errors: list[str] = field(default_factory=list)
    slowest: float = 0.0


def learn(url: str) -> list[Poll]:
    """What the page at `url` asks for again and again."""
    from tests.browser import launch, open_page

    asked: dict[int, list[tuple[float, dict[str, Any]]]] = {}
    with launch() as browser, open_page(browser) as page:

        def note(request: Any) -> None:
            if request.url.endswith("/gradio_api/run/predict"):
                body = json.loads(request.post_data)
                asked.setdefault(body["fn_index"], []).append((time.monotonic(), body))

        page.goto(url)
        page.wait_for_timeout(OPENING_SECONDS * 1000)
        page.on("request", note)
        page.wait_for_timeout(LEARNED_SECONDS * 1000)
    return [
        Poll(calls[-1][1], (calls[-1][0] - calls[0][0]) / (len(calls) - 1))
        for calls in asked.values()
        if len(calls) > 1
    ]


async def look(url: str, polls: list[Poll], number: int, until: asyncio.Event, seen: Seen) -> None:
    """One viewer: its heartbeat stream stays open, and every poll is repeated at its pace."""
    session = f"viewer{number:04d}"
    async with httpx.AsyncClient(timeout=30) as client, asyncio.TaskGroup() as group:
        beat = group.create_task(_beat(client, url, session))
        asking = [group.create_task(_ask(client, url, session, poll, number, until, seen)) for poll in polls]
        await until.wait()
        await asyncio.gather(*asking)
        beat.cancel()


async def _beat(client: httpx.AsyncClient, url: str, session: str) -> None:
    async with client.stream("GET", f"{url}/gradio_api/heartbeat/{session}") as stream:
        async for _ in stream.aiter_bytes():
            pass


async def _ask(
    client: httpx.AsyncClient,
    url: str,
    session: str,
    poll: Poll,
    number: int,
    until: asyncio.Event,
    seen: Seen,
) -> None:
    seconds = poll.seconds
    # people do not open their pages at the same moment
    await asyncio.sleep(seconds * (number % VIEWERS) / VIEWERS)
    while not until.is_set():
        started = time.monotonic()
        try:
            answer = await client.post(
                f"{url}/gradio_api/run/predict", json=poll.body | {"session_hash": session}
            )
            seen.answers += 1
            if answer.status_code != 200:
                seen.errors.append(f"{answer.status_code}: {answer.text[:200]}")
            else:
                seconds = _pace(answer.json(), seconds)
        except httpx.HTTPError as error:
            seen.errors.append(repr(error))
        took = time.monotonic() - started
        seen.slowest = max(seen.slowest, took)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(until.wait(), max(0.0, seconds - took))


def _pace(answer: dict[str, Any], seconds: float) -> float:
    """How long until the page asks again: an answer may set its timer, which is all it says in numbers."""
    updates = [one for one in answer["data"] if isinstance(one, dict) and one.get("__type__") == "update"]
    said = [one["value"] for one in updates if isinstance(one.get("value"), int | float)]
    return float(said[-1]) if said else seconds


async def follow(url: str, job_id: str, until: asyncio.Event) -> list[int]:
    """The ids of all events of a job, read by cursor while it runs and once more after its end."""
    ids: list[int] = []
    async with httpx.AsyncClient(timeout=30) as client:
        while True:
            is_last = until.is_set()
            after = ids[-1] if ids else 0
            page = (await client.get(f"{url}/api/v1/jobs/{job_id}/events", params={"after": after})).json()
            ids += [event["id"] for event in page["events"]]
            if is_last and not page["events"]:
                return ids
            await asyncio.sleep(0 if is_last else 1.5)


async def run_job(url: str) -> tuple[str, float]:
    """(id, seconds of work) of one conversion, waited for to its end."""
    async with httpx.AsyncClient(timeout=30) as client:
        job_id = (await client.post(f"{url}/api/v1/jobs", json=JOB)).raise_for_status().json()["id"]
    return job_id, await wait(url, job_id)


async def wait(url: str, job_id: str) -> float:
    """Seconds the conversion reports of itself."""
    async with httpx.AsyncClient(timeout=30) as client:
        while True:
            job = (await client.get(f"{url}/api/v1/jobs/{job_id}")).json()
            if job["state"] in ("done", "failed", "cancelled"):
                assert job["state"] == "done", job["reason"]
                return float(job["metrics"]["seconds"])
            await asyncio.sleep(1)


async def idle_cost(url: str, polls: list[Poll], web: psutil.Process, viewers: int, seen: Seen) -> float:
    """Share of one core that the web process takes for `viewers` open pages on which nothing happens."""
    until = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for number in range(viewers):
            group.create_task(look(url, polls, number, until, seen))
        await asyncio.sleep(5)
        before, started = sum(web.cpu_times()[:2]), time.monotonic()
        await asyncio.sleep(WATCHED_SECONDS)
        used = (sum(web.cpu_times()[:2]) - before) / (time.monotonic() - started)
        until.set()
    return used


async def watched_job(url: str, viewers: int, seen: Seen) -> tuple[float, int, int]:
    """(seconds, events there are, viewers who missed some) of a conversion everybody looks at."""
    async with httpx.AsyncClient(timeout=30) as client:
        job_id = (await client.post(f"{url}/api/v1/jobs", json=JOB)).raise_for_status().json()["id"]
    polls = await asyncio.to_thread(learn, f"{url}/job?id={job_id}")
    until = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for number in range(viewers):
            group.create_task(look(url, polls, number, until, seen))
        readers = [group.create_task(follow(url, job_id, until)) for _ in range(viewers)]
        seconds = await wait(url, job_id)
        until.set()
    async with httpx.AsyncClient(timeout=30) as client:
        whole = (await client.get(f"{url}/api/v1/jobs/{job_id}/events", params={"limit": 5000})).json()[
            "events"
        ]
    ids = [event["id"] for event in whole]
    return seconds, len(ids), sum(reader.result() != ids for reader in readers)


async def measure(url: str, web: psutil.Process, viewers: int) -> None:
    """All of it, printed."""
    seen = Seen()
    done, before = await run_job(url)
    for name, address in (("jobs page", "/jobs"), ("page of a done job", f"/job?id={done}"), ("new", "/")):
        polls = await asyncio.to_thread(learn, url + address)
        used = await idle_cost(url, polls, web, viewers, seen)
        rates = ", ".join(f"every {poll.seconds:.1f} s" for poll in polls)
        print(f"{viewers} x {name}, idle: {used:.1%} of one core (polls {rates or 'never'})", flush=True)
    seconds, events, missed = await watched_job(url, viewers, seen)
    _, after = await run_job(url)
    alone = (before + after) / 2
    print(
        f"conversion: {before:.1f} s and {after:.1f} s alone, {seconds:.1f} s watched: x{seconds / alone:.3f}"
    )
    print(f"{events} events, {missed} of {viewers} viewers missed one")
    print(f"{seen.answers} answers, {len(seen.errors)} errors, slowest {seen.slowest:.2f} s")
    for line in sorted(set(seen.errors))[:5]:
        print("  ", line)


def main(viewers: int) -> None:
    """Start the workbench in a folder of its own, measure, stop it."""
    from core.settings import Settings
    from tests.app.browsing import free_port

    home = Path(tempfile.mkdtemp(prefix="viewers-"))
    shared = Settings(data_dir=ROOT / "build" / "test-home").models_dir
    shared.mkdir(parents=True, exist_ok=True)
    (home / "models").symlink_to(shared)
    url = f"http://127.0.0.1:{(port := free_port())}"
    environment = os.environ | {"MLA_DATA_DIR": str(home), "MLA_PORT": str(port), "PYTHONPATH": str(ROOT)}
    served = subprocess.Popen([sys.executable, "-m", "app.serve"], env=environment, cwd=ROOT)
    try:
        while True:
            try:
                httpx.get(f"{url}/healthz", timeout=2).raise_for_status()
                break
            except httpx.HTTPError:
                time.sleep(0.5)
        parts = psutil.Process(served.pid).children(recursive=True)
        web = next(part for part in parts if "uvicorn" in part.cmdline() and "-I" not in part.cmdline())
        asyncio.run(measure(url, web, viewers))
    finally:
        served.send_signal(signal.SIGINT)
        served.wait(timeout=60)
        shutil.rmtree(home, ignore_errors=True)


def test_what_viewers_cost() -> None:
    """Printed, for `make bench`."""
    main(VIEWERS)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else VIEWERS)
