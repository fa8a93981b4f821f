# SPDX-License-Identifier: Apache-2.0
"""Calibration on images with texts: the layers see what they see in the original, and images are weighed."""

import json
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from core.arch import find_architecture
from core.calibrate.fisher import sample
from core.calibrate.layer_statistics import load_statistics
from core.calibrate.picture_ids import FIRST_ROW, is_picture
from core.calibrate.picture_windows import Picture
from core.calibrate.seeing import Seeing, picture_states
from core.calibrate.steps import Sample, calibrate
from core.calibrate.tokens import windows_of
from core.engine import convert
from core.errors import TextError
from core.evaluate import load_model
from core.events import NeverCancel
from core.facts import read_facts
from core.linear.moments import load_linears
from core.preflight import prepare
from core.presets import spec_from_preset
from core.profiles import profile_folder
from core.profiling import make_profile
from core.settings import Settings
from core.spec import JobSpec
from core.weights.skeleton import Skeleton
from core.workspace import Workspace
from tests.conftest import make_tiny_llama
from tests.engine.list_sink import ListSink
from tests.families.seeing import IMAGE_TOKENS, make_album, make_llava, painted, prompt

CONTEXT, WEIGHT = 40, 0.25
CPU = torch.device("cpu")
# the streamed layers run in float32 in another batch split than the whole model, as in test_forward_moments
SAME = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama behind a tiny random vision tower."""
    text = make_tiny_llama(tmp_path_factory.mktemp("text"), num_hidden_layers=2)
    return make_llava(text, tmp_path_factory.mktemp("llava"))


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images with texts of 9 to 17 bytes: windows of 40 tokens end anywhere, within an image too."""
    return make_album(tmp_path_factory.mktemp("album"), 12)


@dataclass
class Calibrated:
    """The tiny LLaVA calibrated on the first windows of the album, and the original beside it."""

    folder: Path
    album: Path
    work: Path

    @cached_property
    def read(self) -> tuple[Tensor, tuple[Picture, ...]]:
        return windows_of(self.folder, str(self.album), 5 * CONTEXT, CONTEXT)

    @property
    def windows(self) -> Tensor:
        return self.read[0]

    @cached_property
    def skeleton(self) -> Skeleton:
        facts, pictures = read_facts(str(self.folder)), self.read[1]
        family = find_architecture(facts.model_type)
        assert family is not None
        states = picture_states(self.work, pictures, facts.hidden_size)
        list(Seeing(self.folder, family, pictures, states, CPU).steps())
        skeleton = Skeleton(self.folder, family, CPU, states)
        sample = Sample(self.windows, fisher_windows=2, linears=True, image_weight=WEIGHT)
        list(calibrate(skeleton, facts, family, sample, self.work / "statistics"))
        return skeleton

    @cached_property
    def original(self) -> Any:
        return LlavaForConditionalGeneration.from_pretrained(self.folder, attn_implementation="eager").eval()

    @cached_property
    def hidden(self) -> list[Tensor]:
        """What the original's layers read, (5, 40, d) each: given ids and pixels as users give them.

        An image that a window cuts is given whole behind it, where causal layers do not look back from.
        """
        processor, found = LlavaProcessor.from_pretrained(self.folder), []
        firsts = torch.arange(len(self.read[1])) * IMAGE_TOKENS
        for window in self.windows:
            seen = window[is_picture(window)] - FIRST_ROW
            shown = torch.isin(firsts, seen).nonzero().flatten().tolist()
            missing = len(shown) * IMAGE_TOKENS - len(seen)
            ids = window.masked_fill(is_picture(window), processor.image_token_id)
            ids = torch.cat([ids, torch.full((missing,), processor.image_token_id)])
            pixels = processor.image_processor(
                [painted(int(self.read[1][index].path.stem)) for index in shown], return_tensors="pt"
            )
            with torch.no_grad():
                ran = self.original(input_ids=ids[None], **pixels, output_hidden_states=True)
            found.append([states[0, :CONTEXT] for states in ran.hidden_states])
        return [torch.stack(states) for states in zip(*found, strict=True)]


@pytest.fixture(scope="module")
def calibrated(llava: Path, album: Path, tmp_path_factory: pytest.TempPathFactory) -> Calibrated:
    work = tmp_path_factory.mktemp("calibrated")
    (work / "statistics").mkdir()
    return Calibrated(llava, album, work)


def test_the_first_layer_reads_what_the_original_reads(calibrated: Calibrated) -> None:
    """Words and images, each in its place; an image cut by a window's end among them."""
    embedded = calibrated.skeleton.embed(calibrated.windows)
    torch.testing.assert_close(embedded, calibrated.hidden[0], **SAME)
    assert (is_picture(calibrated.windows).sum(dim=1) % IMAGE_TOKENS).any()
    assert is_picture(calibrated.windows).sum() > 20


def test_moments_weigh_images_and_are_those_of_the_original(calibrated: Calibrated) -> None:
    """Sums over all tokens of the original's inputs, one of an image counting a quarter of one of text."""
    statistics = calibrated.skeleton and calibrated.work / "statistics"
    weight = torch.where(is_picture(calibrated.windows), WEIGHT, 1.0).double().flatten()
    for index, layer in enumerate(calibrated.original.model.language_model.layers):
        with torch.no_grad():
            x = layer.input_layernorm(calibrated.hidden[index]).flatten(0, 1).double()
        found = load_statistics(statistics, index)
        mean = (weight[:, None] * x).sum(dim=0) / weight.sum()
        torch.testing.assert_close(found.input_mean, mean, **SAME)
        torch.testing.assert_close(found.input_covariance, (x.T * weight) @ x / weight.sum(), **SAME)
        l1 = (weight[:, None] * x.abs()).sum(dim=0) / weight.sum()
        torch.testing.assert_close(found.input_l1, l1, **SAME)
        assert (x.mean(dim=0) - mean).abs().max() > 0.01
        linears = load_linears(statistics, index).inputs["attention"]
        torch.testing.assert_close(linears.covariance, found.input_covariance, **SAME)
        torch.testing.assert_close(linears.mean, found.input_mean, **SAME)


@torch.enable_grad()
def test_gradients_are_those_of_the_loss_on_text(calibrated: Calibrated) -> None:
    """Autograd through the original, labels drawn alike; where an image's token follows none is asked for."""
    windows, statistics = calibrated.windows[:2], calibrated.skeleton and calibrated.work / "statistics"
    outputs: list[Tensor] = []

    def keep(module: Any, inputs: Any, output: Tensor) -> None:
        outputs.append(output)

    layers = calibrated.original.model.language_model.layers
    hooks = [
        layer.self_attn.get_submodule(name).register_forward_hook(keep)
        for layer in layers
        for name in ("k_proj", "v_proj")
    ]
    embedded = calibrated.skeleton.embed(windows)
    logits = calibrated.original(inputs_embeds=embedded).logits
    for hook in hooks:
        hook.remove()
    labels = sample(logits.detach().flatten(0, 1).softmax(dim=-1), torch.Generator().manual_seed(0))
    lost = -logits.log_softmax(dim=-1).flatten(0, 1).gather(1, labels[:, None]).view(windows.shape)
    followed = torch.cat([windows[:, 1:], windows[:, -1:]], dim=1)
    gradients = torch.autograd.grad(lost[followed < FIRST_ROW].sum(), outputs)
    for index in range(len(layers)):
        both = torch.cat(gradients[2 * index : 2 * index + 2], dim=-1).flatten(0, 1).double()
        found, wanted = load_statistics(statistics, index).fisher, both.T @ both / windows.numel()
        assert found is not None
        # float32 through two layers forwards and backwards, as in test_fisher
        assert (found - wanted).abs().max() < 1e-4 * wanted.abs().max()
    assert (followed >= FIRST_ROW).any()


def album_spec(model: Path, album: Path, preset: str, keep: float, **calibration: Any) -> JobSpec:
    asked = {"text": str(album), "tokens": 4 * CONTEXT, "context": CONTEXT, **calibration}
    return spec_from_preset(preset, model=str(model), keep=keep, calibration=asked, evaluation=None)


def converted(spec: JobSpec, folder: Path) -> tuple[Path, ListSink]:
    workspace, sink = Workspace(work=folder / "out.partial", result=folder / "out"), ListSink()
    convert(spec, workspace, sink, NeverCancel(), Settings(data_dir=folder / "home"))
    return workspace.result, sink


def test_full_rank_stays_exact_with_images(llava: Path, album: Path, tmp_path: Path) -> None:
    """Logits on a picture and a text; record, card and metrics say what was seen, and the work is gone."""
    result, sink = converted(album_spec(llava, album, "quality", 1.0), tmp_path)
    with torch.no_grad():
        wanted = LlavaForConditionalGeneration.from_pretrained(llava).eval()(**prompt(llava)).logits
        found = load_model(result, dtype=None, device="cpu")(**prompt(result)).logits
    # as without images in the calibration, see test_llava.py
    assert (found - wanted).abs().max() < 1e-3
    seen, tokens = (int(sink.metrics[f"calibration_{name}"]) for name in ("images", "image_tokens"))
    assert tokens > 20
    record = json.loads((result / "conversion.json").read_text(encoding="utf-8"))
    assert record["metrics"]["calibration_images"] == seen
    assert record["spec"]["calibration"]["image_weight"] == 0.1
    card = (result / "README.md").read_text(encoding="utf-8")
    assert f"of album.jsonl with {seen} images, whose {tokens} tokens count 0.1 times one of text" in card
    assert "no images" not in card
    assert str(album.parent) not in card
    assert not (tmp_path / "out.partial").exists()


def test_a_smaller_model_is_chosen_and_refitted_on_images(llava: Path, album: Path, tmp_path: Path) -> None:
    """Both budgets, with an allocation tried on held-back windows; the folder verifies itself with images."""
    spec = album_spec(llava, album, "latentllm", 0.5, tokens=9 * CONTEXT, refit_tokens=2 * CONTEXT)
    _, sink = converted(spec, tmp_path)
    assert sink.metrics["logits_difference"] < 1e-3
    assert sink.metrics["kv_bytes_per_token_measured"] == sink.metrics["kv_bytes_per_token_formula"]


def test_a_profile_is_found_by_its_images_and_their_weight(llava: Path, album: Path, tmp_path: Path) -> None:
    """Other pixels or another weight are another calibration; the rows of the images do not stay in it."""
    settings, sink = Settings(data_dir=tmp_path / "home"), ListSink()
    spec = album_spec(llava, album, "quality", 0.5, tokens=10 * CONTEXT)
    profile = make_profile(spec, settings, sink, NeverCancel())
    assert not list(profile.glob("pictures-*"))
    ready = {name: prepared(one, tmp_path / name) for name, one in {
        "same": spec,
        "weight": album_spec(llava, album, "quality", 0.5, tokens=10 * CONTEXT, image_weight=0.2),
        "pixels": album_spec(
            llava, make_album(tmp_path, 12, first=50), "quality", 0.5, tokens=10 * CONTEXT
        ),
    }.items()}  # fmt: skip
    assert ready["same"] == profile.name
    assert len(set(ready.values())) == 3


def test_a_window_that_one_image_fills_is_refused(llava: Path, album: Path, tmp_path: Path) -> None:
    spec = album_spec(llava, album, "quality", 0.5, context=16)
    assert prepared(spec, tmp_path / "enough")
    wide = make_llava_wide(llava, tmp_path / "wide")
    with pytest.raises(
        TextError, match=r"image '\d+\.png' takes 16 tokens, and a .* window has 16"
    ) as caught:
        prepared(spec.model_copy(update={"model": str(wide)}), tmp_path / "filled")
    assert caught.value.hint == "set calibration.context to 32"


def make_llava_wide(llava: Path, folder: Path) -> Path:
    """The same model with a processor that makes images of 16 patches."""
    shutil.copytree(llava, folder)
    said = json.loads((folder / "processor_config.json").read_text())
    said["image_processor"] |= {"size": {"shortest_edge": 56}, "crop_size": {"height": 56, "width": 56}}
    (folder / "processor_config.json").write_text(json.dumps(said))
    return folder


def prepared(spec: JobSpec, folder: Path) -> str:
    """The name of the profile that a conversion would find."""
    found = prepare(spec, Workspace(work=folder, result=folder / "out"), Settings(data_dir=folder / "home"))
    return profile_folder(folder, found.statistics_fingerprint).name
