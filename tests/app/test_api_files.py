# SPDX-License-Identifier: Apache-2.0
"""Downloads: ranges are exact, the tar is a tar, and no name leads out of the result."""

import hashlib
import io
import random
import tarfile

import pytest
from fastapi.testclient import TestClient

from app.services.workbench import Workbench
from tests.app.conftest import finish_job

FILES = {
    "config.json": b'{"a": 1}',
    "model.safetensors": bytes(random.Random(0).randbytes(70_001)),
    "empty.txt": b"",
    "exactly-one-block.bin": b"x" * 512,
    "sub folder/ümlaut.txt": "grün".encode(),
    # longer than the 100 bytes a plain tar header has room for
    f"deep/{'n' * 120}.txt": b"long",
}


@pytest.fixture
def job(bench: Workbench) -> str:
    return finish_job(bench, FILES)


def test_every_file_is_listed_and_fetched(client: TestClient, job: str) -> None:
    """Name, size and checksum of the list are those of the bytes that arrive."""
    listed = client.get(f"/api/v1/jobs/{job}/files").json()
    assert {one["name"] for one in listed} == set(FILES)
    for one in listed:
        answer = client.get(f"/api/v1/jobs/{job}/files/{one['name']}")
        assert answer.content == FILES[one["name"]]
        assert one["sha256"] == hashlib.sha256(answer.content).hexdigest()
        assert answer.headers["etag"] == f'"{one["sha256"]}"'


def test_a_file_can_be_resumed(client: TestClient, job: str) -> None:
    """206 with the exact slice; HEAD tells the length without a body."""
    url, whole = f"/api/v1/jobs/{job}/files/model.safetensors", FILES["model.safetensors"]
    part = client.get(url, headers={"Range": "bytes=50000-"})
    assert (part.status_code, part.content) == (206, whole[50_000:])
    assert part.headers["content-range"] == f"bytes 50000-{len(whole) - 1}/{len(whole)}"
    head = client.head(url)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(whole))
    assert head.headers["accept-ranges"] == "bytes"
    assert client.get(url, headers={"Range": "bytes=999999-"}).status_code == 416


@pytest.mark.parametrize(
    "name",
    [
        "../log.txt",
        "..%2Flog.txt",
        "%2e%2e/log.txt",
        "sub folder/../../log.txt",
        "/etc/passwd",
        "%2Fetc%2Fpasswd",
        "config.json/",
        "",
        "unregistered.txt",
        "link.txt",
    ],
)
def test_only_registered_names_can_be_fetched(
    client: TestClient, bench: Workbench, job: str, name: str
) -> None:
    """Neither a path that climbs out, nor a file that exists but was never registered."""
    bench.log_file(job).write_text("secret")
    (bench.result_folder(job) / "unregistered.txt").write_text("secret")
    (bench.result_folder(job) / "link.txt").symlink_to(bench.log_file(job))
    answer = client.get(f"/api/v1/jobs/{job}/files/{name}")
    assert answer.status_code == 404
    assert "secret" not in answer.text


def test_a_registered_name_that_became_a_link_is_gone(client: TestClient, bench: Workbench, job: str) -> None:
    """Replacing a result file by a link to elsewhere yields 410, not the other file."""
    path = bench.result_folder(job) / "config.json"
    secret = bench.settings.home / "secret"
    secret.write_bytes(FILES["config.json"])
    path.unlink()
    path.symlink_to(secret)
    assert client.get(f"/api/v1/jobs/{job}/files/config.json").status_code == 410
    assert client.get(f"/api/v1/jobs/{job}/archive").status_code == 410


def test_a_changed_file_is_not_served_as_the_result(client: TestClient, bench: Workbench, job: str) -> None:
    """Another length would break the archive's offsets: say so before the first byte."""
    (bench.result_folder(job) / "config.json").write_bytes(b"something longer")
    answer = client.get(f"/api/v1/jobs/{job}/archive")
    assert answer.status_code == 410
    assert "config.json" in answer.json()["error"]


def test_the_archive_is_a_tar_of_every_file(client: TestClient, job: str) -> None:
    """It unpacks into one folder with exactly the files, and its length was announced."""
    answer = client.get(f"/api/v1/jobs/{job}/archive")
    assert answer.headers["content-length"] == str(len(answer.content))
    assert "attachment" in answer.headers["content-disposition"]
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as tar:
        unpacked = {}
        for member in tar.getmembers():
            file = tar.extractfile(member)
            assert file is not None
            unpacked[member.name.partition("/")[2]] = file.read()
        assert len({member.name.split("/")[0] for member in tar.getmembers()}) == 1
    assert unpacked == FILES


def test_any_range_of_the_archive_equals_the_slice(client: TestClient, job: str) -> None:
    """100 random ranges, every border of a block, and the forms of RFC 9110."""
    url = f"/api/v1/jobs/{job}/archive"
    whole = client.get(url).content
    size, rng = len(whole), random.Random(1)
    ranges = [tuple(sorted(rng.sample(range(size), 2))) for _ in range(100)]
    ranges += [(511, 512), (512, 512), (0, 0), (size - 1, size - 1), (0, size - 1), (1023, 1537)]
    for first, last in ranges:
        answer = client.get(url, headers={"Range": f"bytes={first}-{last}"})
        assert answer.status_code == 206
        assert answer.content == whole[first : last + 1]
        assert answer.headers["content-range"] == f"bytes {first}-{last}/{size}"
    assert client.get(url, headers={"Range": "bytes=-700"}).content == whole[-700:]
    assert client.get(url, headers={"Range": f"bytes={size - 5}-{size + 99}"}).content == whole[-5:]


def test_ranges_that_cannot_be_met(client: TestClient, job: str) -> None:
    """Behind the end is 416; what is not understood is ignored and everything is sent."""
    url = f"/api/v1/jobs/{job}/archive"
    size = len(client.get(url).content)
    beyond = client.get(url, headers={"Range": f"bytes={size}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{size}")
    for ignored in ("bytes=5-2", "lines=1-2", "bytes=0-1,4-5", "bytes=-", "nonsense"):
        answer = client.get(url, headers={"Range": ignored})
        assert (answer.status_code, len(answer.content)) == (200, size), ignored


def test_a_resumed_archive_checks_that_it_is_still_the_same(client: TestClient, job: str) -> None:
    """If-Range with another ETag starts over; the ETag and the bytes never change between requests."""
    url = f"/api/v1/jobs/{job}/archive"
    head = client.head(url)
    whole = client.get(url)
    assert head.headers["etag"] == whole.headers["etag"]
    assert head.headers["content-length"] == whole.headers["content-length"]
    assert head.content == b""
    assert client.get(url).content == whole.content
    same = client.get(url, headers={"Range": "bytes=10-19", "If-Range": whole.headers["etag"]})
    other = client.get(url, headers={"Range": "bytes=10-19", "If-Range": '"another"'})
    assert (same.status_code, same.content) == (206, whole.content[10:20])
    assert (other.status_code, other.content) == (200, whole.content)


def test_checksums_are_what_sha256sum_reads(client: TestClient, job: str) -> None:
    """Two spaces between digest and name, one line a file."""
    lines = client.get(f"/api/v1/jobs/{job}/checksums").text.splitlines()
    assert {tuple(line.split("  ", 1)) for line in lines} == {
        (hashlib.sha256(content).hexdigest(), name) for name, content in FILES.items()
    }


def test_there_is_no_archive_before_the_job_is_done(client: TestClient, running_job: str) -> None:
    """A half result is never offered."""
    assert client.get(f"/api/v1/jobs/{running_job}/archive").status_code == 404
    assert client.get(f"/api/v1/jobs/{running_job}/files").json() == []
