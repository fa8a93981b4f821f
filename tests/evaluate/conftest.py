# SPDX-License-Identifier: Apache-2.0
"""A converted model beside the tiny base, with random latent weights: its quality is no matter here."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from core.modeling import MLAConfig, MLAForCausalLM

# per layer: (kv_lora_rank, groups, qk_rope_head_dim)
WIDTHS = ((10, 2, 4), (7, 2, 4), (12, 1, 8), (5, 2, 0))


def _layer(rank: int, groups: int, rope: int) -> dict[str, Any]:
    return {
        "kv_lora_rank": rank,
        "k_rank": rank,
        "v_rank": rank,
        "groups": groups,
        "qk_rope_head_dim": rope,
        "qk_nope_head_dim": 16 - rope,
        "v_head_dim": 16,
        "q_bias": False,
        "kv_a_bias": False,
        "o_bias": False,
    }


@pytest.fixture(scope="session")
def converted(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """converted("bfloat16") -> folder of a latent model stored in that dtype, layers of different widths.

    Of the tiny checkpoint, or of another one with as many layers or fewer.
    """

    def make(dtype: str, original: Path = tiny_checkpoint) -> Path:
        folder = tmp_path_factory.mktemp(f"mla-{dtype}")
        base_config = json.loads((original / "config.json").read_text(encoding="utf-8"))
        widths = WIDTHS[: base_config["num_hidden_layers"]]
        config = MLAConfig(base_config=base_config, mla_layers=[_layer(*one) for one in widths])
        torch.manual_seed(1)
        MLAForCausalLM(config).to(getattr(torch, dtype)).save_pretrained(folder)
        for file in original.glob("tokenizer*"):
            shutil.copy(file, folder)
        return folder

    return make
