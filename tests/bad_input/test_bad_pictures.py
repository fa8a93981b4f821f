# SPDX-License-Identifier: Apache-2.0
"""Files of images and texts that cannot be calibrated on; each refusal names the line and the image."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from core.calibrate.pictures import open_image, read_captioned
from core.errors import TextError, WorkbenchError
from tests.families.seeing import make_album, painted

LINES = {
    "escape": (
        {"image": "../secret.png", "text": "x"},
        "line 2 of 'album.jsonl': the image '../secret.png' is out",
    ),
    "absolute": ({"image": "/etc/hostname", "text": "x"}, "'/etc/hostname' is outside of its folder"),
    "link": ({"image": "link.png", "text": "x"}, "'link.png' is outside of its folder"),
    "missing": ({"image": "gone.png", "text": "x"}, "the image 'gone.png' is missing"),
    "folder": ({"image": ".", "text": "x"}, "the image '.' cannot be read"),
    "no image": ({"image": "notes.png", "text": "x"}, "the image 'notes.png' is no image"),
    "NUL": ({"image": "a\0b.png", "text": "x"}, "cannot be read"),
    "no text": ({"image": "0.png"}, "line 2 of 'album.jsonl' does not say an image and a text"),
    "a number": ({"image": 3, "text": "x"}, "does not say an image and a text"),
    "two places": ({"image": "0.png", "text": "<image> and <image>"}, "<image> more than once"),
    "no object": ([1], "does not say an image and a text"),
}


@pytest.mark.parametrize("kind", LINES)
def test_a_bad_line_is_named(kind: str, tmp_path: Path) -> None:
    """The first line is a good one."""
    folder = tmp_path / "album"
    folder.mkdir()
    painted().save(tmp_path / "secret.png")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "notes.png").write_text("no image at all")
    file = make_album(folder, 1)
    line, message = LINES[kind]
    file.write_text(file.read_text() + json.dumps(line) + "\n")
    with pytest.raises(TextError) as caught:
        read_captioned(file)
    assert message in caught.value.message
    assert caught.value.hint
    assert caught.value.field == "calibration.text"


@pytest.mark.parametrize("content", [b"", b"\n \n", b"{]\n", "Größe".encode("latin-1")])
def test_what_has_no_lines_is_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "album.jsonl"
    file.write_bytes(content)
    with pytest.raises(TextError, match=r"album\.jsonl"):
        read_captioned(file)


def test_a_cut_image_is_found_when_it_is_read(tmp_path: Path) -> None:
    """Its beginning is that of an image; whoever reads all of it says which one it is."""
    painted().save(tmp_path / "0.png")
    whole = (tmp_path / "0.png").read_bytes()
    (tmp_path / "0.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TextError, match=r"the image '0\.png' cannot be read"):
        open_image(tmp_path / "0.png")


def test_a_model_that_reads_text_alone_gets_no_images(
    refused: Callable[..., WorkbenchError], tmp_path: Path
) -> None:
    error = refused(calibration={"text": f"wikipedia+{make_album(tmp_path, 2)}"})
    assert "'album.jsonl' has images in it, and" in error.message
    assert error.field == "calibration.text"


def test_images_are_nothing_to_evaluate_on(refused: Callable[..., WorkbenchError], tmp_path: Path) -> None:
    error = refused(evaluation={"text": str(make_album(tmp_path, 2))})
    assert "only calibration looks at images" in error.message
