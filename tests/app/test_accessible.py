# SPDX-License-Identifier: Apache-2.0
"""Every page for everybody: axe-core finds nothing serious, in dark and light, on a desk and on a phone."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect

from app.services.requests import submit
from core.events import Figure, Progress, StageStarted
from core.further.spec import Measurements
from core.heal.curve import Curve, HeldOutPoint, TrainPoint
from core.spec import JobSpec
from tests.app.browsing import Site, running_site
from tests.app.conftest import LAYERS, finish_job
from tests.app.evaluation_rows import every_table
from tests.browser import DESKTOP, PHONE, open_page

pytestmark = pytest.mark.browser
# what axe calls minor or moderate is a matter of taste in its own words; these two keep somebody out
BAD = ("serious", "critical")


@pytest.fixture(scope="module")
def site(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """With two jobs that are done, one that runs, one that failed and one that waits."""
    with running_site(tmp_path_factory.mktemp("site"), tiny_checkpoint) as site:
        for keep in (0.3125, 0.5):
            finish_job(site.bench, {"config.json": b"{}", "conversion.json": b"{}"}, JobSpec(keep=keep))
        store = site.bench.store
        for job_id in (store.submit(JobSpec()).id, store.submit(JobSpec()).id):
            store.claim(job_id, job_id, 10_000)
            store.record(job_id, job_id, StageStarted(stage="converting", total=LAYERS))
            store.record(
                job_id, job_id, Progress(stage="converting", done=2, total=LAYERS, message="layer 1")
            )
        store.fail(job_id, job_id, "killed (signal 9)", "use less memory", "the last line", 1_000_000)
        store.submit(JobSpec())
        start_healing(site)
        evaluate(site)
        yield site


def start_healing(site: Site) -> None:
    """A healing of the first job that is done, after its first look."""
    done = next(job.id for job in site.bench.store.list() if job.state == "done")
    job = submit(site.bench, {"kind": "heal", "heal": {"source": f"job:{done}"}})
    site.bench.store.claim(job.id, "healer", 10_000)
    curve = Curve(
        [TrainPoint(tokens=1024, loss=0.4, learning_rate=1e-4, tokens_per_second=150)],
        [HeldOutPoint(tokens=0, kl=0.5, perplexity_ratio=1.6)],
    )
    figure = Figure(name="healing_curve", data=curve.as_figure() | {"steps": 97, "outlook": None})
    for event in (StageStarted(stage="healing", total=97), figure):
        assert site.bench.store.record(job.id, "healer", event)


def evaluate(site: Site) -> None:
    """A finished evaluation of the jobs that are done, with every kind of table."""
    store = site.bench.store
    names = tuple(f"job:{job.id}" for job in store.list() if job.state == "done")
    job = store.submit(JobSpec(kind="evaluate", evaluate=Measurements(conversions=names)))
    store.claim(job.id, "evaluator", 10_000)
    assert store.record(job.id, "evaluator", Figure(name="evaluation", data=every_table(names)))
    assert store.enter_verifying(job.id, "evaluator")
    assert store.finish(job.id, "evaluator", [], 1)


def addresses(site: Site) -> dict[str, str]:
    """Every page by name, in the states that look different."""
    known = site.bench.store.list()
    jobs = {job.state.value: job.id for job in known if job.spec.kind == "convert"}
    (healing,) = (job.id for job in known if job.spec.heal)
    (evaluation,) = (job.id for job in known if job.spec.evaluate)
    done = [job.id for job in known if job.state == "done" and job.spec.makes_model]
    one_each = {f"{state} job": f"/job?id={job_id}" for state, job_id in jobs.items()}
    return one_each | {
        "new": "/",
        "jobs": "/jobs",
        "healing": f"/job?id={healing}",
        "form of a healing": f"/heal?job={done[0]}",
        "form of an evaluation": f"/evaluate?job={done[0]}",
        "report": f"/report?job={done[0]}",
        "evaluation": f"/job?id={evaluation}",
        "models": "/models",
        "demo": "/models?model=demo",
        "compare": f"/compare?jobs={','.join(done)}",
        "nothing to compare": "/compare",
        "chat": "/chat",
        "sweep": "/sweep",
        "glossary": "/glossary",
    }


@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")])
def test_nothing_serious_stands_in_anybodys_way(
    site: Site, browser: Browser, size: tuple[int, int], scheme: str
) -> None:
    found = []
    for name, address in addresses(site).items():
        with open_page(browser, size, scheme) as page:
            page.goto(site.url + address)
            expect(page.locator("header.bar")).to_be_visible()
            # pages fill themselves after the first paint; what they ask for again and again never ends
            page.wait_for_timeout(1500)
            # while Gradio fetches what draws plots it says so in a way that is not ours
            expect(page.locator("[aria-label='Empty value']").filter(visible=True)).to_have_count(0)
            rules = Axe().run(page).response["violations"]
            for rule in rules:
                if rule["impact"] in BAD:
                    where = "; ".join(node["html"][:120] for node in rule["nodes"][:3])
                    found.append(f"{name}: {rule['id']} ({rule['help']}): {where}")
            wide = page.evaluate("document.documentElement.scrollWidth")
            if wide > size[0]:
                found.append(f"{name}: scrolls sideways, {wide} px")
    assert not found, "\n".join(found)
