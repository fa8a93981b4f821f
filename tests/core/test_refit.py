# SPDX-License-Identifier: Apache-2.0
"""W_O fitted anew: the ridge minimum on what the original layer sees, streamed, and the same after a stop."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from core.arch.llama import LLAMA
from core.calibrate.layer_statistics import load_statistics
from core.calibrate.picture_ids import FIRST_ROW
from core.calibrate.states import StateFiles
from core.calibrate.steps import Sample, calibrate
from core.convert import LatentLayer, convert_layer
from core.export.folder import mla_config
from core.facts import read_facts
from core.layer_weights import attention_weights
from core.modeling import MLAForCausalLM
from core.planning import make_plan
from core.refit import RIDGE, OutputRefit, refit_windows
from core.spec import JobSpec, Recipe
from core.weights.skeleton import Skeleton, fill
from core.weights.tensors import TensorSource

LAYERS, WINDOWS, CONTEXT = 2, 3, 20
WINDOW_IDS = torch.randint(2, 256, (WINDOWS, CONTEXT), generator=torch.Generator().manual_seed(1))


class Converted:
    """A tiny model, its plan for one recipe and budget, and the converted attention of every layer."""

    def __init__(self, folder: Path, work: Path, recipe: Recipe, keep: float) -> None:
        self.folder = folder
        spec = JobSpec(model=str(folder), recipe=recipe, keep=keep)
        facts = read_facts(str(folder))
        plan = make_plan(spec, facts)
        self.config = mla_config(facts, plan)
        self.skeleton = Skeleton(folder, LLAMA, torch.device("cpu"))
        list(calibrate(self.skeleton, facts, LLAMA, Sample(WINDOW_IDS), work))
        source = TensorSource(folder)
        self.layers: list[LatentLayer] = [
            convert_layer(
                attention_weights(source, LLAMA, facts, index, torch.device("cpu")),
                load_statistics(work, index),
                self.skeleton.inv_freq(index),
                plan.layers[index],
                recipe,
            )
            for index in range(LAYERS)
        ]

    def refit(self, folder: Path) -> OutputRefit:
        return OutputRefit(self.skeleton, LLAMA, {"one": self.config}, WINDOW_IDS, folder)

    def heads_and_missed(self, index: int) -> tuple[Tensor, Tensor]:
        """What W_O of converted layer `index` gets and misses, by running the whole original model."""
        with torch.device("meta"):
            empty: Any = MLAForCausalLM(self.config).float()
        tensors = {name: value.float() for name, value in self.layers[index].tensors.items()}
        latent = fill(empty.model.layers[index].self_attn, tensors, torch.device("cpu"))
        whole: Any = AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32)
        seen: dict[str, Tensor] = {}

        def keep(module: Any, args: Any, kwargs: Any, output: Any) -> None:
            seen.update(inputs=kwargs["hidden_states"], output=output[0])

        whole.model.layers[index].self_attn.register_forward_hook(keep, with_kwargs=True)
        latent.o_proj.register_forward_hook(lambda module, inputs, output: seen.update(heads=inputs[0]))
        with torch.no_grad():
            whole(WINDOW_IDS)
            missed = seen["output"] - latent(seen["inputs"], torch.arange(CONTEXT)[None])[0]
        return seen["heads"].flatten(0, 1).double(), missed.flatten(0, 1).double()


RECIPES = {
    "fast": Recipe(rope_mix="complex", rope_select="logit-damage", mean_bias=True, refit_output=True),
    "quality": Recipe(layout="pre-rope", factor_input="root-covariance", refit_output=True),
}


@pytest.fixture(params=RECIPES)
def recipe(request: pytest.FixtureRequest) -> Recipe:
    return RECIPES[request.param]


def test_streamed_fit_is_the_ridge_minimum(
    recipe: Recipe, tiny_llama: Callable[..., Path], tmp_path: Path
) -> None:
    """Against a least-squares solver on all tokens at once, with the ridge as rows of its own."""
    converted = Converted(tiny_llama(num_hidden_layers=LAYERS), tmp_path / "statistics", recipe, 0.4)
    refit = converted.refit(tmp_path / "refit")
    for index, layer in enumerate(converted.layers):
        found = refit.advance(index, {"one": layer})["one"].tensors
        heads, missed = converted.heads_and_missed(index)
        centred, rest = heads, missed
        if recipe.mean_bias:
            centred, rest = heads - heads.mean(dim=0), missed - missed.mean(dim=0)
        ridge = RIDGE * centred.square().mean() * len(heads)
        rows = torch.cat([centred, ridge.sqrt() * torch.eye(heads.shape[1], dtype=torch.float64)])
        wanted = torch.cat([rest, torch.zeros(heads.shape[1], rest.shape[1], dtype=torch.float64)])
        change = torch.linalg.lstsq(rows, wanted).solution.T
        weight = layer.tensors["o_proj.weight"]
        size = change.abs().max()
        assert size > 1e-3
        assert (found["o_proj.weight"] - weight - change).abs().max() < 1e-3 * size
        left = missed - heads @ change.T
        if recipe.mean_bias:
            bias = found["o_proj.bias"] - layer.tensors["o_proj.bias"]
            assert (bias - left.mean(dim=0)).abs().max() < 1e-3 * size
            left = left - bias
        assert left.square().sum() < 0.9 * missed.square().sum()
        others = found.keys() - {"o_proj.weight", "o_proj.bias"}
        assert all(torch.equal(found[name], layer.tensors[name]) for name in others)


def test_tokens_of_images_count_as_much_as_was_asked(tiny_llama: Callable[..., Path], tmp_path: Path) -> None:
    """Images that look like tokens of text: the states are known, and only the weights differ."""
    folder = tiny_llama(num_hidden_layers=LAYERS)
    converted = Converted(folder, tmp_path / "statistics", RECIPES["quality"], 0.4)
    whole: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    embedded = whole.get_input_embeddings()(WINDOW_IDS.flatten()).detach()
    pictures = StateFiles(tmp_path, "pictures", (len(embedded), 1, embedded.shape[1]))
    with pictures.writing(0) as append:
        append(embedded[:, None])
    is_image = torch.rand(WINDOW_IDS.shape, generator=torch.Generator().manual_seed(3)) < 0.6
    rows = FIRST_ROW + torch.arange(WINDOW_IDS.numel()).view_as(WINDOW_IDS)
    skeleton = Skeleton(folder, LLAMA, torch.device("cpu"), pictures)
    refit = OutputRefit(
        skeleton,
        LLAMA,
        {"one": converted.config},
        torch.where(is_image, rows, WINDOW_IDS),
        tmp_path / "refit",
        image_weight=0.1,
    )
    found = refit.advance(0, {"one": converted.layers[0]})["one"].tensors["o_proj.weight"]
    heads, missed = converted.heads_and_missed(0)
    weights = torch.where(is_image.flatten(), 0.1, 1.0).double()[:, None]
    square = (heads * weights).T @ heads / weights.sum()
    ridge = RIDGE * square.diagonal().mean() * torch.eye(len(square), dtype=torch.float64)
    change = torch.linalg.solve(square + ridge, (heads * weights).T @ missed / weights.sum()).T
    wanted = converted.layers[0].tensors["o_proj.weight"] + change
    # float32 sums of a few hundred tokens
    assert (found - wanted).abs().max() < 1e-3 * change.abs().max()


@pytest.mark.parametrize(
    ("shape", "tokens", "wanted"),
    [
        ((5, 512), 1024, (8, 128)),
        ((5, 512), 1025, (12, 128)),
        ((5, 300), 600, (4, 128)),
        ((5, 20), 60, (3, 20)),
    ],
)
def test_refit_windows_are_short_and_begin_where_calibration_does(
    shape: tuple[int, int], tokens: int, wanted: tuple[int, int]
) -> None:
    windows = torch.arange(shape[0] * shape[1]).view(shape)
    found = refit_windows(windows, tokens)
    assert found.shape == wanted
    assert torch.equal(found[0], windows[0, : wanted[1]])
    assert len(refit_windows(windows, 0)) == 0


def test_where_nothing_is_lost_nothing_changes(tiny_llama: Callable[..., Path], tmp_path: Path) -> None:
    model = tiny_llama(num_hidden_layers=LAYERS, attention_bias=True)
    converted = Converted(model, tmp_path / "statistics", RECIPES["quality"], 1.0)
    refit = converted.refit(tmp_path / "refit")
    for index, layer in enumerate(converted.layers):
        found = refit.advance(index, {"one": layer})["one"].tensors
        for name in ("o_proj.weight", "o_proj.bias"):
            assert (found[name] - layer.tensors[name]).abs().max() < 1e-4


def test_starting_in_the_middle_gives_the_same(
    recipe: Recipe, tiny_llama: Callable[..., Path], tmp_path: Path
) -> None:
    """With the states of an earlier run, which may be run twice, and without them."""
    converted = Converted(tiny_llama(num_hidden_layers=LAYERS), tmp_path / "statistics", recipe, 0.4)
    first = converted.refit(tmp_path / "first")
    for index, layer in enumerate(converted.layers):
        undisturbed = first.advance(index, {"one": layer})["one"].tensors["o_proj.weight"]
    last = LAYERS - 1
    for folder in ("first", "nothing there"):
        again = converted.refit(tmp_path / folder).advance(last, {"one": converted.layers[last]})["one"]
        assert torch.equal(again.tensors["o_proj.weight"], undisturbed)


def test_only_the_states_that_are_needed_stay_on_the_disk(
    recipe: Recipe, tiny_llama: Callable[..., Path], tmp_path: Path
) -> None:
    converted = Converted(tiny_llama(num_hidden_layers=LAYERS), tmp_path / "statistics", recipe, 0.4)
    refit = converted.refit(tmp_path / "refit")
    for index, layer in enumerate(converted.layers):
        refit.advance(index, {"one": layer})
        assert len(list((tmp_path / "refit").iterdir())) == 2
