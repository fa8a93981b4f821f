# SPDX-License-Identifier: Apache-2.0
"""What of a family is refused by name, and checkpoints that call their tensors as programs did years ago."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from core.arch import ARCHITECTURES, find_architecture
from core.errors import PlanError
from core.facts import read_facts
from core.planning import make_plan
from core.presets import PRESETS, spec_from_preset
from core.weights.index import current_names, read_index
from core.weights.skeleton import check_weights
from core.weights.tensors import TensorSource
from tests.families.conftest import Tiny
from tests.families.tiny import CONFIGS

VARIANTS: list[tuple[str, dict[str, Any], str]] = [
    ("opt", {"do_layer_norm_before": False}, "do_layer_norm_before"),
    ("opt", {"word_embed_proj_dim": 32}, "word_embed_proj_dim"),
    ("opt", {"_remove_final_layer_norm": True}, "_remove_final_layer_norm"),
    ("opt", {"layer_norm_elementwise_affine": False}, "layer_norm_elementwise_affine"),
    ("gpt2", {"add_cross_attention": True}, "add_cross_attention"),
    ("gpt2", {"scale_attn_weights": False}, "scale_attn_weights"),
    ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
    ("phi3", {"rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4}}, "longrope"),
    # transformers takes yarn in a Phi-3 for longrope
    ("phi3", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "yarn"),
    ("gemma2", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
    ("gemma3", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
    (
        "gemma3",
        {
            "rope_parameters": {
                "full_attention": {"rope_type": "default", "rope_theta": 1e4},
                "sliding_attention": {"rope_type": "dynamic", "rope_theta": 1e4},
            }
        },
        "dynamic",
    ),
    ("gpt_neox", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4}}, "dynamic"),
    ("gpt_neox", {"rope_parameters": {"partial_rotary_factor": 0.2}}, "odd"),
]


def changed(source: Path, target: Path, **config: Any) -> Path:
    """A copy of a checkpoint with another config.json."""
    shutil.copytree(source, target)
    said = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(said | config))
    return target


@pytest.mark.parametrize(("name", "config", "word"), VARIANTS, ids=[f"{one[0]} {one[2]}" for one in VARIANTS])
def test_what_is_not_supported_is_refused_by_name(
    name: str, config: dict[str, Any], word: str, families: dict[str, Tiny], tmp_path: Path
) -> None:
    """From config.json and headers alone, before anything heavy."""
    (problem,) = read_facts(str(changed(families[name].folder, tmp_path / "model", **config))).problems
    assert word in problem.message
    assert problem.hint


def test_every_family_has_a_tiny_model() -> None:
    """Whoever declares a family gets its tests by adding it to tests/families/tiny.py."""
    tested = {config["model_type"] for config in CONFIGS.values()} | {"llama"}
    # what sees images is tested in test_llava.py, whatever its language model
    plain = [family for family in ARCHITECTURES if not family.sees_images]
    assert tested >= {kind for family in plain for kind in family.model_types}


def renamed(source: Path, target: Path, **tensors: torch.Tensor) -> dict[str, torch.Tensor]:
    found = load_file(source / "model.safetensors") | tensors
    shutil.copytree(source, target)
    return found


def test_gpt2_as_first_published_has_no_prefix_and_stores_its_mask(
    families: dict[str, Tiny], tmp_path: Path
) -> None:
    base, folder = families["gpt2"].folder, tmp_path / "model"
    found = renamed(base, folder)
    old = {name.removeprefix("transformer."): tensor for name, tensor in found.items()}
    old |= {f"h.{index}.attn.bias": torch.ones(1, 1, 8, 8) for index in range(2)}
    save_file(old, folder / "model.safetensors", metadata={"format": "pt"})
    same_model(base, folder)


def test_pythia_as_published_stores_masks_and_frequencies(families: dict[str, Tiny], tmp_path: Path) -> None:
    base, folder = families["gpt_neox"].folder, tmp_path / "model"
    found = renamed(base, folder)
    # transformers still writes the old name, so every tiny model here has it
    assert "embed_out.weight" in found
    for index in range(2):
        layer = f"gpt_neox.layers.{index}.attention"
        found |= {f"{layer}.bias": torch.ones(1, 1, 8, 8), f"{layer}.masked_bias": torch.tensor(-1e9)}
        found[f"{layer}.rotary_emb.inv_freq"] = torch.ones(3)
    save_file(found, folder / "model.safetensors", metadata={"format": "pt"})
    same_model(base, folder)


def test_opt_as_first_published_is_the_model_without_its_head(
    families: dict[str, Tiny], tmp_path: Path
) -> None:
    base, folder = families["opt"].folder, tmp_path / "model"
    old = {name.removeprefix("model."): tensor for name, tensor in renamed(base, folder).items()}
    save_file(old, folder / "model.safetensors", metadata={"format": "pt"})
    same_model(base, folder)


def same_model(base: Path, folder: Path) -> None:
    """Facts, names and values of two checkpoints agree, and the names are the model's own."""
    one, other = (read_facts(str(path)) for path in (base, folder))
    assert other == one.model_copy(update={"name": str(folder), "folder": str(folder)})
    family = find_architecture(one.model_type)
    assert family is not None
    check_weights(folder, family, current_names(read_index(folder), family))
    mine, theirs = TensorSource(base, family), TensorSource(folder, family)
    assert mine.infos.keys() == theirs.infos.keys()
    assert all(torch.equal(mine.read(name), theirs.read(name)) for name in mine.infos)


def test_an_opt_cannot_read_texts_longer_than_its_positions(families: dict[str, Tiny]) -> None:
    """257 of 256 positions would be an index error in the middle of a calibration."""
    facts = families["opt"].facts
    for preset in PRESETS:
        fields: dict[str, Any] = {"calibration": {"context": 257}, "evaluation": {"context": 300}}
        plan = make_plan(spec_from_preset(preset, model="x", **fields), facts)
        found = [one for one in plan.problems if "positions" in one.message]
        assert ["calibration.context" in found[0].hint, "evaluation.context" in found[1].hint] == [True, True]
        assert all("256" in one.hint for one in found)


@pytest.mark.parametrize(
    ("field", "value"), [("rope_dim", 4), ("rope_pairs", [[[0]] * 4] * 2), ("recipe.rope_select_start", 1)]
)
def test_nothing_of_rotations_can_be_asked_of_a_model_without_them(
    field: str, value: Any, families: dict[str, Tiny]
) -> None:
    given = {"recipe": {"rope_select": "uniform", "rope_select_start": value}, "keep": 0.5}
    if "." not in field:
        given = {field: value, "keep": 0.5} | ({"kv_rank": 8, "keep": None} if field == "rope_dim" else {})
    asked: dict[str, Any] = {"calibration": {"context": 64}, "evaluation": None, **given}
    plan = make_plan(spec_from_preset("mha2mla", model="x", **asked), families["gpt2"].facts)
    assert [one.field for one in plan.problems] == [field]
    with pytest.raises(PlanError) as caught:
        plan.raise_if_blocked()
    assert caught.value.hint


@pytest.mark.parametrize("name", ["qwen3", "gemma3", "mixtral", "qwen3_moe"])
def test_weights_are_not_factored_where_norms_or_experts_are_in_the_way(
    name: str, families: dict[str, Tiny]
) -> None:
    """The cache alone shrinks; asking for both is refused by the family's name."""
    spec = spec_from_preset("quality", model="x", weights_keep=0.8, evaluation=None)
    (problem,) = make_plan(spec, families[name].facts).problems
    assert problem.field == "weights_keep"
    assert families[name].facts.family in problem.message
    assert problem.hint
