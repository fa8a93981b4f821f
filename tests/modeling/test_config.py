# SPDX-License-Identifier: Apache-2.0
"""The config refuses what the model file cannot compute, by name."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from core.modeling import MLAConfig, MLAForCausalLM
from tests.modeling.exact_layouts import convert_layouts
from tests.modeling.exact_mla import convert_exactly

KEPT = torch.tensor([[0, 3], [1, 6]])


@pytest.fixture
def config(gqa: Any) -> MLAConfig:
    return convert_exactly(gqa, KEPT).config


def test_config_survives_the_disk(config: MLAConfig, tmp_path: Path) -> None:
    config.save_pretrained(tmp_path)
    loaded = MLAConfig.from_pretrained(tmp_path)
    assert loaded.shapes() == config.shapes()
    assert loaded.base_config == config.base_config
    assert loaded.base().to_dict() == config.base().to_dict()


def test_an_older_config_without_layouts_is_latent_and_rope(config: MLAConfig) -> None:
    """Exports written before there were two layouts load as what they are."""
    layers = [asdict(shape) for shape in config.shapes()]
    for layer in layers:
        del layer["layout"], layer["k_b_bias"]
    older = MLAConfig(base_config=config.base_config, mla_layers=layers, layout="latent+rope")
    assert older.shapes() == config.shapes()
    assert {shape.layout for shape in older.shapes()} == {"latent+rope"}


def test_config_json_names_the_layout_of_every_layer(gqa: Any, tmp_path: Path) -> None:
    convert_layouts(gqa, ("per-head", "pre-rope")).config.save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert [layer["layout"] for layer in stored["mla_layers"]] == ["latent+rope", "pre-rope"]
    assert [shape.layout for shape in MLAConfig.from_pretrained(tmp_path).shapes()] == [
        "latent+rope",
        "pre-rope",
    ]


def test_original_attributes_can_be_overridden(config: MLAConfig) -> None:
    """What the exporter sets itself wins over the original, e.g. another end of text."""
    settings = {"base_config": config.base_config, "mla_layers": config.mla_layers}
    assert MLAConfig(**settings).eos_token_id == 96
    assert MLAConfig(**settings, eos_token_id=[5, 96]).eos_token_id == [5, 96]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"groups": 3}, "groups is 3"),
        ({"qk_rope_head_dim": 3}, "even"),
        ({"kv_lora_rank": 0}, "latent of 0"),
        ({"k_rank": 1000}, "k_rank 1000"),
        ({"v_rank": 0}, "v_rank 0"),
        ({"qk_rope_head_dim": 0, "qk_nope_head_dim": 0}, "neither"),
        ({"layout": "post-rope"}, "'post-rope' is unknown"),
        ({"layout": "pre-rope", "qk_nope_head_dim": 0}, "groups 0"),
        ({"layout": "pre-rope", "groups": 0}, "only rotary dims"),
        ({"groups": 0}, "groups is 0"),
        ({"k_b_bias": True}, "cancels in the softmax"),
        ({"softcap": -1.0}, "softcap is -1.0"),
    ],
)
def test_impossible_widths_are_refused(config: MLAConfig, wrong: dict[str, Any], says: str) -> None:
    layers = [asdict(shape) | wrong for shape in config.shapes()]
    with pytest.raises(ValueError, match=says):
        MLAForCausalLM(MLAConfig(base_config=config.base_config, mla_layers=layers))


def test_every_layer_needs_its_widths(config: MLAConfig) -> None:
    with pytest.raises(ValueError, match="1 entries for 2 layers"):
        MLAForCausalLM(MLAConfig(base_config=config.base_config, mla_layers=config.mla_layers[:1]))


def test_layers_may_differ_in_width(config: MLAConfig) -> None:
    """A budget need not be spread evenly: each layer caches what its own widths say."""
    layers = [asdict(shape) for shape in config.shapes()]
    layers[1] |= {"kv_lora_rank": 9, "k_rank": 9, "v_rank": 9}
    model = MLAForCausalLM(MLAConfig(base_config=config.base_config, mla_layers=layers)).eval()
    cache = model(torch.arange(5)[None], use_cache=True).past_key_values
    assert [layer.keys.shape[-1] for layer in cache.layers] == [56, 9]


def test_flash_attention_is_refused_by_transformers(config: MLAConfig) -> None:
    """Only SDPA and eager masks are understood; asking for more must not be ignored."""
    config._attn_implementation = "flash_attention_2"
    with pytest.raises((ValueError, ImportError), match=r"[Ff]lash"):
        MLAForCausalLM(config)
