# SPDX-License-Identifier: Apache-2.0
"""A model that sees images: its language tower is converted, what it sees with stays as it is."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlavaForConditionalGeneration

from core.arch import find_architecture
from core.engine import convert
from core.evaluate import load_model
from core.events import NeverCancel
from core.facts import read_facts
from core.presets import spec_from_preset
from core.settings import Settings
from core.weights.tensors import TensorSource
from core.workspace import Workspace
from tests.conftest import make_tiny_llama
from tests.engine.list_sink import ListSink
from tests.families.seeing import make_llava, painted, prompt

# what a user runs in a process of their own
RELOAD = """
import sys
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor
folder, picture = sys.argv[1:]
model = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=True)
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
inputs = processor(images=Image.open(picture), text="A picture: <image> It shows", return_tensors="pt")
print(type(model).__name__, model.generate(**inputs, max_new_tokens=8, do_sample=False)[0].tolist())
"""


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama behind a tiny random vision tower."""
    text = make_tiny_llama(tmp_path_factory.mktemp("text"), num_hidden_layers=2)
    return make_llava(text, tmp_path_factory.mktemp("llava"))


def converted(
    model: Path, preset: str, keep: float, text: Path | str, folder: Path, **calibration: int
) -> tuple[Path, ListSink]:
    """The result folder and what was said."""
    calibration = {"text": str(text), "tokens": 512, "context": 128} | calibration
    spec = spec_from_preset(preset, model=str(model), keep=keep, calibration=calibration, evaluation=None)
    workspace, sink = Workspace(work=folder / "out.partial", result=folder / "out"), ListSink()
    convert(spec, workspace, sink, NeverCancel(), Settings(data_dir=folder / "home"))
    return workspace.result, sink


def logits_of(model: Any, folder: Path) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(**prompt(folder)).logits
    return found


def same_outside_attention(before: Path, after: Path) -> int:
    """How many tensors vision tower and projector have, all of them byte for byte the original's."""
    family = find_architecture(read_facts(str(before)).model_type)
    old, new = TensorSource(before, family), TensorSource(after)
    seen = [name for name in old.infos if "vision_tower" in name or "multi_modal_projector" in name]
    for name in seen:
        one, other = old.read(name), new.read(name)
        assert one.dtype == other.dtype
        assert one.equal(other), name
    return len(seen)


def test_full_rank_sees_what_the_original_sees(llava: Path, sample_text: Path, tmp_path: Path) -> None:
    """Logits on a picture and a text; without the picture's pixels they are others by far."""
    result, sink = converted(llava, "mha2mla", 1.0, sample_text, tmp_path)
    original = LlavaForConditionalGeneration.from_pretrained(llava).eval()
    wanted = logits_of(original, llava)
    found = logits_of(load_model(result, dtype=None, device="cpu"), result)
    # float32 factors of two layers, see tests/engine/test_exact.py; logits are of size 6
    assert (found - wanted).abs().max() < 1e-3
    with torch.no_grad():
        blind = original(**{**prompt(llava), "pixel_values": torch.zeros(1, 3, 28, 28)}).logits
    assert (blind - wanted).abs().max() > 1
    assert sink.metrics["kv_bytes_per_token_measured"] == sink.metrics["kv_bytes_per_token_formula"]


def test_a_smaller_cache_reloads_with_its_processor_in_a_fresh_process(
    llava: Path, sample_text: Path, tmp_path: Path
) -> None:
    """At -68.75 %: vision untouched, and the Auto classes generate from a picture what this process does."""
    result, _ = converted(llava, "quality", 0.3125, sample_text, tmp_path)
    assert same_outside_attention(llava, result) > 30
    card = (result / "README.md").read_text(encoding="utf-8")
    assert "AutoModelForImageTextToText.from_pretrained" in card
    assert "AutoModelForCausalLM" not in card
    model = load_model(result, dtype=None, device="cpu")
    picture = tmp_path / "picture.png"
    painted().save(picture)
    own = model.generate(**prompt(result), max_new_tokens=8, do_sample=False)[0].tolist()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(tmp_path / "modules")}
    said = subprocess.run(
        [sys.executable, "-c", RELOAD, str(result), str(picture)],
        env=environment, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert said.strip() == f"MLAForImageTextToText {own}"
