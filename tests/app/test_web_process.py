# SPDX-License-Identifier: Apache-2.0
"""What the web process is: light, private, and able to answer on its addresses."""

import subprocess
import sys
from pathlib import Path

from fastapi.testclient import TestClient

from app.services.workbench import Workbench
from app.ui.components.log import LogState
from app.ui.pages.job import _look
from core.events import Log
from core.spec import JobSpec
from tests.app.conftest import finish_job

_LIGHT = """
import sys
from core.settings import Settings
from app.main import create_app
create_app(Settings(data_dir={folder!r}))
heavy = {{"torch", "transformers"}} & set(sys.modules)
sys.exit(f"the web process imported {{heavy}}" if heavy else 0)
"""


def test_the_web_process_never_imports_torch(tmp_path: Path) -> None:
    """In a fresh interpreter: the whole application, page included, without torch or transformers."""
    code = _LIGHT.format(folder=str(tmp_path))
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert answer.returncode == 0, answer.stderr


def test_healthz_and_short_addresses(client: TestClient) -> None:
    """/jobs/<id> leads to the page that names the job; what is not an id cannot inject anything."""
    assert client.get("/healthz").json() == {"status": "ok"}
    answer = client.get("/jobs/abc123", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/job?id=abc123")
    odd = client.get("/jobs/a%26b%0d%0aX: y", follow_redirects=False)
    assert odd.headers["location"] == "/job?id=a%26b%0D%0AX%3A%20y"


def test_every_page_is_served(page: TestClient) -> None:
    """New, Jobs and Job are pages of their own, each survives a reload."""
    for address in ("/", "/jobs", "/job?id=abc"):
        answer = page.get(address)
        assert answer.status_code == 200
        assert "gradio_config" in answer.text


def test_no_handler_of_the_page_is_a_public_endpoint(page: TestClient) -> None:
    """REST is the API; Gradio would publish every handler by default."""
    info = page.get("/gradio_api/info").json()
    assert info["named_endpoints"] == {}
    assert info["unnamed_endpoints"] == {}


def test_gradios_extras_are_off(page: TestClient) -> None:
    """No monitoring page, no run history."""
    assert page.get("/monitoring/summary").status_code in (403, 404)
    assert page.get("/gradio_api/runs").status_code == 404


def test_result_files_are_not_reachable_through_gradio(page: TestClient) -> None:
    """The only way to a file is the checked route."""
    bench = page.app.state.workbench  # type: ignore[attr-defined]
    path = bench.result_folder(finish_job(bench, {"config.json": b"{}"})) / "config.json"
    assert page.get(f"/gradio_api/file={path}").status_code in (403, 404)


def test_the_log_of_an_ended_job_is_complete_at_the_first_look(bench: Workbench) -> None:
    """Events come in portions of 500, and the page of a job that has ended does not look again."""
    job_id = bench.store.submit(JobSpec()).id
    bench.store.claim(job_id, "worker", 1000)
    for number in range(1100):
        bench.store.record(job_id, "worker", Log(message=f"line {number}."))
    bench.store.fail(job_id, "worker", "broke", "", "", None)
    *_, log = _look(bench, job_id, LogState())
    assert "line 1099." in log
