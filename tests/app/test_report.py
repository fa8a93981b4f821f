# SPDX-License-Identifier: Apache-2.0
"""The report says what was measured on what, what was not, and how to repeat it; the card has its tables."""

import hashlib
import json
import re
import tarfile
from io import BytesIO
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.services.report import Report, make_report
from app.services.workbench import Workbench
from app.ui.components.report import report_html
from app.ui.report_file import as_page
from core.errors import WorkbenchError
from core.events import Figure, Metric
from core.further.spec import Measurements
from core.spec import Calibration, Evaluation, Healing, JobSpec
from core.store.artefacts import describe
from tests.app.conftest import finish_job
from tests.app.evaluation_rows import positions, retrieval_row, span, text_row

SHA = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("original", "result")}
CARD = "# A model\n\n## What was done\n\nMuch.\n\n## Limits\n\n- Some.\n"
SPANS = {
    "perplexity_ratio": (1.2, 1.1, 1.3),
    "kl_to_base": (0.3, 0.25, 0.35),
    "top1_agreement": (0.8, 0.75, 0.85),
}


def record_of(model: str) -> bytes:
    said = {
        "base": {"name": model, "revision": None, "sha256": {"model.safetensors": SHA["original"]}},
        "files": {"model.safetensors": SHA["result"]},
        "versions": {"mla-workbench": "0.1.0", "torch": "2.0"},
    }
    return json.dumps(said).encode()


def finish(bench: Workbench, spec: JobSpec, model: str) -> str:
    """A conversion or healing that has measured itself on 8 windows."""
    job = bench.store.submit(spec)
    bench.store.claim(job.id, "worker", 1000)
    numbers = {"perplexity_base": 20.0, "perplexity": 24.0, "evaluation_tokens": 4088.0, "p_value": 0.0078125}
    for name, ends in SPANS.items():
        numbers |= dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))
    numbers |= {"kv_bytes_per_token_formula": 7200.0, "kv_bytes_per_token_measured": 7200.0}
    for name, value in numbers.items():
        assert bench.store.record(job.id, "worker", Metric(name=name, value=value))
    for name, value in {"kl_predicted": 0.28, "kl_predicted_low": 0.2, "kl_predicted_high": 0.4}.items():
        assert bench.store.record(job.id, "worker", Metric(name=name, value=value, source="predicted"))
    folder = bench.result_folder(job.id)
    folder.mkdir(parents=True)
    (folder / "conversion.json").write_bytes(record_of(model))
    (folder / "README.md").write_text(CARD)
    assert bench.store.enter_verifying(job.id, "worker")
    assert bench.store.finish(job.id, "worker", describe(folder), 1_000_000)
    return job.id


@pytest.fixture
def conversion(bench: Workbench, tiny_checkpoint: Path, sample_text: Path) -> str:
    spec = JobSpec(
        model=str(tiny_checkpoint),
        preset="quality",
        calibration=Calibration(text=str(sample_text), seed=7),
        evaluation=Evaluation(text=str(sample_text)),
    )
    return finish(bench, spec, str(tiny_checkpoint))


@pytest.fixture
def measured(bench: Workbench, conversion: str, tiny_checkpoint: Path) -> str:
    """An evaluation of it: another text with figures by position, and a retrieval task."""
    name = f"job:{conversion}"
    spec = JobSpec(
        kind="evaluate",
        model=str(tiny_checkpoint),
        evaluate=Measurements(conversions=(name,), texts=("python-docs",), retrieval=("multikey",)),
    )
    row = text_row(name, 1.1) | {"text": "python-docs", "by_position": positions()}
    apart = span(-0.2, 0.15) | {"p_value": 0.125}
    rows = [retrieval_row(str(tiny_checkpoint), 0.9)]
    rows += [retrieval_row(name, 0.7, match_to_base=apart, choice_to_base=apart)]
    report = {"base": str(tiny_checkpoint), "conversions": [name], "texts": [row], "retrieval": rows}
    job = bench.store.submit(spec)
    bench.store.claim(job.id, "worker", 1000)
    assert bench.store.record(job.id, "worker", Figure(name="evaluation", data=report | {"harness": []}))
    assert bench.store.enter_verifying(job.id, "worker")
    assert bench.store.finish(job.id, "worker", [], 1)
    return job.id


def gaps(found: Report) -> set[str]:
    """What the sentences on what is missing are about."""
    return {one.partition(":")[0] for one in found.missing}


def test_it_names_weights_texts_seeds_and_bytes(bench: Workbench, conversion: str) -> None:
    page = report_html(make_report(bench, conversion))
    for words in (SHA["original"], SHA["result"], "torch 2.0", "7 of calibration"):
        assert words in page, words
    assert "they agree" in page
    assert "within the range that was said" in page
    assert "×1.20 <small>×1.10 to ×1.30</small>" in page
    assert "8 × 512 tokens" in page


def test_a_text_that_was_calibrated_on_is_found_out(bench: Workbench, conversion: str) -> None:
    """The same file on both sides: all of it had been seen."""
    found = make_report(bench, conversion)
    assert [one.share for one in found.overlaps] == [1.0]
    assert "not held out" in report_html(found)
    assert "An unseen text" in gaps(found)


def test_what_is_missing_follows_from_what_there_is(
    bench: Workbench, conversion: str, request: pytest.FixtureRequest
) -> None:
    """An evaluation fills gaps: a second text, positions, retrieval. Nobody ran lm-eval or timed anything."""
    before = gaps(make_report(bench, conversion))
    assert {"Other texts", "Retrieval", "By position", "A sharper figure", "Benchmarks", "Speed"} <= before
    request.getfixturevalue("measured")
    after = make_report(bench, conversion)
    assert before - gaps(after) == {"Other texts", "Retrieval", "By position"}
    assert "Retrieval, sharply" in gaps(after)
    assert "A prediction" not in before, "there is one in the record"


def test_what_later_jobs_found_stands_in_it_with_their_samples_and_commands(
    bench: Workbench, conversion: str, measured: str
) -> None:
    """The conversion's own row first; each row says which job measured it."""
    found = make_report(bench, conversion)
    assert [row["job"] for row in found.tables["texts"]] == [conversion, measured]
    page = report_html(found)
    for words in ("8 × 2\u202f048 tokens", "20 × 1\u202f024 tokens", "512 to 1\u202f024", f"job {measured}"):
        assert words in page, words
    commands = dict(found.commands)
    assert commands[f"convert · job {conversion}"].startswith("mla-workbench convert")
    assert "--retrieval multikey" in commands[f"evaluate · job {measured}"]


def test_a_healing_stands_beside_what_it_healed(bench: Workbench, conversion: str) -> None:
    """In the report of either; and the text it learned from counts as seen."""
    spec = bench.store.get(conversion).spec
    source = str(bench.result_folder(conversion).absolute())
    healing = spec.model_copy(update={"kind": "heal", "heal": Healing(source=source, text="python-docs")})
    healed = finish(bench, healing, spec.model)
    for job in (conversion, healed):
        rows = make_report(bench, job).tables["texts"]
        assert [row["model"] for row in rows] == [f"job:{conversion}", f"job:{healed}"]
    seen = [one.seen for one in make_report(bench, healed).overlaps]
    assert seen == [spec.calibration.text, "python-docs"]


def test_without_figures_it_says_that_nothing_is_known(bench: Workbench) -> None:
    job = finish_job(bench, {"config.json": b"{}"}, JobSpec(evaluation=None))
    found = make_report(bench, job)
    assert "Quality" in gaps(found)
    assert "The quality was not measured" in report_html(found)


def test_what_made_no_model_has_no_report(bench: Workbench, running_job: str) -> None:
    with pytest.raises(WorkbenchError, match="no converted model") as caught:
        make_report(bench, running_job)
    assert caught.value.hint


def test_as_a_file_it_asks_nobody_for_anything_and_names_no_folder(
    bench: Workbench, conversion: str, measured: str, sample_text: Path, tiny_checkpoint: Path
) -> None:
    page = as_page(make_report(bench, conversion), "a title")
    assert not re.findall(r"""(?:src|href)=|url\(|@import|<script""", page)
    assert page.count("<h2>") == 7
    for path in (sample_text, tiny_checkpoint):
        assert str(path.parent) not in page
        assert path.name in page


def test_the_card_that_is_downloaded_has_what_was_measured_since(
    client: TestClient, bench: Workbench, conversion: str, request: pytest.FixtureRequest
) -> None:
    """In the file, its checksum and the archive; the result itself stays as it was written."""
    base = f"/api/v1/jobs/{conversion}"
    assert client.get(f"{base}/files/README.md").text == CARD
    request.getfixturevalue("measured")
    answer = client.get(f"{base}/files/README.md")
    card = answer.text
    head, _, limits = card.partition("## Limits\n")
    assert "## Measured further" in head
    assert limits == CARD.partition("## Limits\n")[2]
    assert "| this model | python-docs | 8 x 2,048 tokens |" in card
    assert "| the original | multikey | 1,024 | 20 |" in card
    digest = hashlib.sha256(answer.content).hexdigest()
    assert answer.headers["etag"] == f'"{digest}"'
    assert f"{digest}  README.md" in client.get(f"{base}/checksums").text
    with tarfile.open(fileobj=BytesIO(client.get(f"{base}/archive").content)) as tar:
        (member,) = (one for one in tar.getmembers() if one.name.endswith("README.md"))
        stored = tar.extractfile(member)
        assert stored is not None
        assert stored.read() == answer.content
    assert (bench.result_folder(conversion) / "README.md").read_text() == CARD
