# SPDX-License-Identifier: Apache-2.0
"""Uploaded texts over HTTP: stored whole or not at all, counted as a conversion counts, used by name."""

import json
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.main import create_api
from app.services.incoming import Incoming
from app.services.text_names import friendly
from app.services.tokens import EXACT_BYTES, TokenCounts
from app.services.uploads import check_name, name_of_file, path_of, store, uploaded
from app.services.workbench import Workbench
from core.calibrate.tokens import tokenize
from core.errors import TextError
from core.settings import Settings
from core.spec import Calibration, JobSpec
from tests.app.conftest import CountingBell, finish_job

PROSE = "Ein Text mit Umlauten: äöü, and some English. " * 40


def post(
    client: TestClient, text: str | bytes, name: str = "prose", **headers: str
) -> tuple[int, dict[str, str]]:
    content = text.encode() if isinstance(text, str) else text
    answer = client.post(
        "/api/v1/texts", params={"name": name} if name else {}, content=content, headers=headers
    )
    return answer.status_code, answer.json()


def files(settings: Settings) -> list[str]:
    """Everything below the folder of texts."""
    return sorted(path.name for path in settings.texts_dir.rglob("*") if path.is_file())


def test_a_text_is_stored_under_its_hash_and_listed_with_its_tokens(
    client: TestClient, settings: Settings, tiny_copy: Path
) -> None:
    status, stored = post(client, PROSE)
    assert (status, stored["name"], stored["bytes"]) == (201, "prose", len(PROSE.encode()))
    assert (settings.texts_dir / f"{stored['sha256']}.txt").read_text(encoding="utf-8") == PROSE
    (listed,) = client.get("/api/v1/texts", params={"model": str(tiny_copy)}).json()
    # as many as a conversion will see, by the other way to the same tokenizer
    assert listed["tokens"] == len(tokenize(tiny_copy, PROSE))
    assert listed["tokens_are"] == "counted"
    (without,) = client.get("/api/v1/texts").json()
    assert without["tokens"] is None


def test_a_form_with_a_file_is_the_same_upload(client: TestClient) -> None:
    raw = post(client, PROSE, "my-notes (2)")[1]
    form = client.post("/api/v1/texts", files={"file": ("my+notes (2).txt", PROSE.encode("utf-8-sig"))})
    assert form.status_code == 201
    assert form.json() == raw
    named = client.post("/api/v1/texts", files={"file": ("x.txt", b"other")}, data={"name": "named"})
    assert named.json()["name"] == "named"


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        (b"", "is empty", "thousand words"),
        (b" \n\t ", "is empty", "thousand words"),
        ("Grüße".encode("latin-1") * 50, "not UTF-8", "save it as plain text"),
        ("Text".encode("utf-16"), "UTF-16", "save it as UTF-8"),
        (b"cut in a character: \xc3", "not UTF-8", "UTF-8"),
        (b"MZ\0\0" * 40, "binary", "plain text"),
        (b"\x01\x02 text" * 40, "binary", "plain text"),
    ],
)
def test_what_is_no_text_is_refused_and_leaves_nothing(
    client: TestClient, settings: Settings, content: bytes, message: str, hint: str
) -> None:
    status, error = post(client, content)
    assert status == 422
    assert message in error["error"]
    assert hint in error["hint"]
    assert files(settings) == []


@pytest.mark.parametrize("name", ["", "a+b", "../up", "a/b", ".hidden", "x" * 81, "upload:x"])
def test_a_name_that_a_request_could_not_say_is_refused(
    client: TestClient, settings: Settings, name: str
) -> None:
    status, error = post(client, PROSE, name)
    assert (status, error["field"]) == (422, "name")
    assert error["hint"]
    assert files(settings) == []


def test_the_limit_holds_for_every_way_in(tmp_path: Path) -> None:
    """By what the request says of itself, and by what comes when it says nothing, alone or in a form."""
    settings = Settings(data_dir=tmp_path / "data", upload_mb=1)
    large = b"text " * 210_000
    with TestClient(create_api(settings, CountingBell())) as client:
        said = post(client, large)
        unsaid = client.post("/api/v1/texts?name=x", content=iter([large[:700_000], large[700_000:]]))
        form = client.post("/api/v1/texts", files={"file": ("x.txt", large)})
    assert said[0] == unsaid.status_code == form.status_code == 413
    assert "larger than 1 MB" in said[1]["error"]
    assert "MLA_UPLOAD_MB" in said[1]["hint"]
    assert files(settings) == []


def test_a_name_means_one_text(client: TestClient, settings: Settings) -> None:
    first = post(client, PROSE)
    assert post(client, PROSE) == first
    status, error = post(client, "another text")
    assert status == 409
    assert "another text called 'prose'" in error["error"]
    assert len(list(settings.texts_dir.glob("*.txt"))) == 1
    # two names for one text: it stays until both are gone
    post(client, PROSE, "again")
    assert client.delete("/api/v1/texts/prose").status_code == 204
    assert len(list(settings.texts_dir.glob("*.txt"))) == 1
    assert client.delete("/api/v1/texts/again").status_code == 204
    assert files(settings) == []
    assert client.delete("/api/v1/texts/again").status_code == 404


def test_what_reads_a_text_and_what_deleting_it_gives_back(client: TestClient, bench: Workbench) -> None:
    post(client, PROSE)
    (path,) = bench.settings.texts_dir.glob("*.txt")
    spec = JobSpec(calibration=Calibration(text=f"wikipedia+{path}"))
    done, other = finish_job(bench, {}, spec), finish_job(bench, {})
    waiting = bench.store.submit(spec).id
    (held,) = client.get("/api/v1/disk").json()["texts"]
    assert (held["name"], held["jobs"], held["needed_by"]) == ("prose", [waiting, done], [waiting])
    assert other not in held["jobs"]
    # whole blocks of the disk, so a little more than the bytes written
    assert 0 <= held["bytes"] - path.stat().st_size < 10_000
    assert client.delete("/api/v1/texts/prose").status_code == 409
    bench.store.request_cancel(waiting)
    # of two names for one content, neither gives anything back alone
    post(client, PROSE, "again")
    assert [one["bytes"] for one in client.get("/api/v1/disk").json()["texts"]] == [0, 0]
    for name in ("prose", "again"):
        assert client.delete(f"/api/v1/texts/{name}").status_code == 204
    assert client.get("/api/v1/disk").json()["texts"] == []
    assert not path.exists()


def test_a_page_numbers_what_has_a_name_that_is_taken(settings: Settings) -> None:
    """Who opens notes.txt again after a change is not asked to rename it."""
    names = []
    for text in ("first", "second", "first", "third"):
        with Incoming(settings) as incoming:
            incoming.write(text.encode())
            names.append(store(settings, "notes", incoming, numbered=True).name)
    assert names == ["notes", "notes (2)", "notes", "notes (3)"]


def test_a_job_reads_the_upload_it_named(client: TestClient, bench: Workbench, tiny_copy: Path) -> None:
    """Stored with the content's path: the same text for every worker, whatever the name means later."""
    post(client, PROSE)
    asked = {"model": str(tiny_copy), "calibration": {"text": "upload:prose+python-docs"}}
    answer = client.post("/api/v1/jobs", json=asked | {"evaluation": {"text": "upload:prose"}})
    assert answer.status_code == 201, answer.json()
    spec = bench.store.get(answer.json()["id"]).spec
    path = path_of(bench.settings, uploaded(bench.settings)[0])
    assert spec.calibration.text == f"{path}+python-docs"
    assert spec.evaluation
    assert spec.evaluation.text == str(path)
    assert friendly(bench.settings, spec).calibration.text == "upload:prose+python-docs"
    refused = client.delete("/api/v1/texts/prose")
    assert refused.status_code == 409
    assert "a job that has not ended needs" in refused.json()["error"]
    client.post(f"/api/v1/jobs/{answer.json()['id']}/cancel")
    assert client.delete("/api/v1/texts/prose").status_code == 204


def test_an_upload_there_is_not_is_named_beside_its_field(client: TestClient, tiny_copy: Path) -> None:
    post(client, PROSE)
    asked = {
        "model": str(tiny_copy),
        "calibration": {"text": "python-docs"},
        "evaluation": {"text": "upload:poems"},
    }
    problems = client.post("/api/v1/plan", json=asked).json()["problems"]
    assert [one["field"] for one in problems] == ["evaluation.text"]
    assert "no uploaded text 'poems'" in problems[0]["message"]
    assert "prose" in problems[0]["hint"]


@pytest.mark.parametrize(
    "headers", [{"origin": "http://elsewhere.example"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}]
)
def test_a_page_of_another_site_can_neither_store_nor_list(
    client: TestClient, settings: Settings, headers: dict[str, str]
) -> None:
    assert post(client, PROSE, **headers)[0] == 403
    assert client.get("/api/v1/texts", headers=headers).status_code == 403
    assert files(settings) == []
    assert post(client, PROSE, origin="http://testserver")[0] == 201


def test_no_route_gives_a_text_back(client: TestClient) -> None:
    post(client, PROSE)
    for address in ("/api/v1/texts/prose", "/texts/prose", "/data/texts/prose.txt"):
        assert client.get(address).status_code in (404, 405)


def test_a_large_text_is_estimated_from_samples(
    client: TestClient, settings: Settings, tiny_copy: Path
) -> None:
    """Even prose of equal bytes per token: the estimate is off by what the edges of 8 samples may cut."""
    text = PROSE * (EXACT_BYTES // len(PROSE.encode()) + 2)
    sha256 = post(client, text)[1]["sha256"]
    found = TokenCounts().count(tiny_copy, settings.texts_dir / f"{sha256}.txt")
    assert found
    assert not found.is_exact
    # a byte tokenizer: one token for each byte
    assert found.tokens == pytest.approx(len(text.encode()), rel=1e-4)


def test_a_model_without_a_tokenizer_counts_nothing(
    settings: Settings, tiny_copy: Path, tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    text.write_text(PROSE, encoding="utf-8")
    (tiny_copy / "tokenizer.json").write_text(json.dumps({"model": 3}))
    assert TokenCounts().count(tiny_copy, text) is None
    (tiny_copy / "tokenizer.json").unlink()
    assert TokenCounts().count(tiny_copy, text) is None


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("notes.txt", "notes"),
        ("a+b/c.md", "c"),
        ("..txt", "text"),
        ("été 2.txt", "été 2"),
        ("日本.txt", "日本"),
    ],
)
def test_a_file_gets_a_name_that_can_be_used(file: str, name: str) -> None:
    assert name_of_file(file) == name


def test_a_file_of_images_is_not_uploaded(settings: Settings) -> None:
    """Its images would not come along; under another name it would be read as text."""
    with pytest.raises(TextError, match=r"'album\.jsonl' names images") as caught:
        name_of_file("home/album.jsonl")
    assert "give its path" in caught.value.hint
    with pytest.raises(TextError, match="names images"):
        check_name("my album.jsonl")
