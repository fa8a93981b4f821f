# SPDX-License-Identifier: Apache-2.0
"""A page of another site changes nothing here; the own pages, curl and scripts do."""

import shlex
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from app.cli.main import cli
from app.services.copy_as import as_curl
from app.services.workbench import Workbench
from core.settings import Settings
from core.spec import Calibration, Evaluation, JobSpec
from core.store.views import State
from tests.app.conftest import CountingBell

FOREIGN = [
    {"origin": "http://elsewhere.example"},
    {"origin": "null"},
    # another port of the same machine is another origin
    {"origin": "http://testserver:8080"},
    {"sec-fetch-site": "cross-site"},
    # a neighbour below the same domain is not this server
    {"sec-fetch-site": "same-site", "origin": "http://testserver"},
    {"sec-fetch-site": "cross-site", "x-forwarded-host": "testserver"},
]
OWN = [
    {},
    {"origin": "http://testserver"},
    {"sec-fetch-site": "same-origin", "origin": "http://testserver"},
    {"sec-fetch-site": "none"},
    # a proxy that calls this server by another name
    {"origin": "https://mla.example", "x-forwarded-host": "mla.example"},
    {"origin": "https://mla.example", "sec-fetch-site": "same-origin"},
]


def changing(client: TestClient) -> list[tuple[str, str]]:
    """(method, address) of every route of the REST API that is not GET."""
    paths = client.get("/api/openapi.json").json()["paths"]
    return [
        (method.upper(), path.replace("{", "").replace("}", ""))
        for path, operations in paths.items()
        for method in operations
        if method != "get"
    ]


@pytest.mark.parametrize("headers", FOREIGN)
def test_no_changing_route_answers_a_page_of_another_site(
    client: TestClient, bench: Workbench, headers: dict[str, str]
) -> None:
    routes = changing(client)
    assert ("POST", "/api/v1/jobs") in routes
    assert ("DELETE", "/api/v1/jobs/job_id") in routes
    answers = {route: client.request(*route, headers=headers) for route in routes}
    assert {one.status_code for one in answers.values()} == {403}
    assert {one.json()["hint"] for one in answers.values()} == {"use the page of this server, or curl"}
    assert bench.store.count() == 0


@pytest.mark.parametrize("headers", OWN)
def test_the_own_page_and_programs_change_things(
    client: TestClient, bench: Workbench, headers: dict[str, str]
) -> None:
    job = bench.store.submit(JobSpec())
    assert client.post(f"/api/v1/jobs/{job.id}/cancel", headers=headers).json()["state"] == State.CANCELLED
    assert client.delete(f"/api/v1/jobs/{job.id}", headers=headers).status_code == 204


def test_a_link_from_elsewhere_leads_here(client: TestClient, done_job: str) -> None:
    """Following a link changes nothing: a result may be linked from anywhere."""
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    for address in (f"/api/v1/jobs/{done_job}", f"/api/v1/jobs/{done_job}/archive", "/healthz"):
        assert client.get(address, headers=headers).status_code == 200


def test_the_buttons_of_the_page_are_no_other_sites_either(page: TestClient) -> None:
    """Gradio's own check lets every origin in as soon as the server has a name other than localhost."""
    for address in ("/gradio_api/queue/join", "/gradio_api/upload", "/gradio_api/run/on_act"):
        assert page.post(address, json={}, headers={"origin": "http://elsewhere.example"}).status_code == 403
        assert page.post(address, json={}, headers={"origin": "http://testserver"}).status_code != 403


def test_a_copied_curl_queues_its_job(client: TestClient, bell: CountingBell, tiny_checkpoint: Path) -> None:
    """With the headers that curl sends, and no other."""
    texts = Calibration(text="python-docs"), Evaluation(text="python-docs")
    spec = JobSpec(model=str(tiny_checkpoint), keep=0.5, calibration=texts[0], evaluation=texts[1])
    words = shlex.split(as_curl(spec, "http://testserver").replace("\\\n", ""))
    assert words[:3] == ["curl", "-X", "POST"]
    name, _, value = words[words.index("-H") + 1].partition(": ")
    headers = {"user-agent": "curl/8.5.0", "accept": "*/*", name: value}
    assert client.post(words[3], content=words[-1].encode(), headers=headers).status_code == 201
    assert len(bell.rung) == 1


def test_the_command_line_needs_no_server_to_ask(settings: Settings, bench: Workbench) -> None:
    """It reads and writes the record itself."""
    job = bench.store.submit(JobSpec())
    ran = CliRunner().invoke(cli, ["jobs", "cancel", job.id], env={"MLA_DATA_DIR": str(settings.data_dir)})
    assert ran.exit_code == 0, ran.output
    assert bench.store.get(job.id).state is State.CANCELLED
