# SPDX-License-Identifier: Apache-2.0
"""Decode FLOPs by formula are the multiply-adds that a real decode step makes, counted by torch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, DynamicCache

from core.decode_cost import decode_flops
from core.export.folder import mla_config
from core.facts import ModelFacts, read_facts
from core.modeling import MLAForCausalLM
from core.planning import make_plan
from core.presets import spec_from_preset

SHAPES: dict[str, dict[str, Any]] = {
    "gqa, tied": {},
    "mha, untied, wide heads": {
        "num_key_value_heads": 4,
        "tie_word_embeddings": False,
        "head_dim": 32,
    },
}
CONTEXT = 37


def counted(model: Any) -> int:
    """FLOPs of decoding the last of CONTEXT tokens; the counter sees every matrix product."""
    tokens, cache = torch.zeros(1, CONTEXT, dtype=torch.int64), DynamicCache()
    with torch.no_grad():
        model(tokens[:, :-1], past_key_values=cache)
        with FlopCounterMode(display=False) as counter:
            model(tokens[:, -1:], past_key_values=cache)
    return counter.get_total_flops()


def norm_weights(facts: ModelFacts) -> int:
    """Two norms a layer and a last one: the only weights in no matrix product."""
    return (2 * facts.layers + 1) * facts.hidden_size


@pytest.fixture(params=SHAPES, scope="module")
def base(request: pytest.FixtureRequest, tiny_llama: Callable[..., Path]) -> Path:
    return tiny_llama(**SHAPES[request.param])


def test_the_originals_step_is_the_formula(base: Path) -> None:
    facts = read_facts(str(base))
    model = AutoModelForCausalLM.from_pretrained(base, attn_implementation="eager").eval()
    before, _ = decode_flops(facts, make_plan(spec_from_preset("quality"), facts), CONTEXT)
    assert before == counted(model) + 2 * norm_weights(facts)


@pytest.mark.parametrize("form", ["joint", "split"])
@pytest.mark.parametrize("preset", ["quality", "fast", "mha2mla", "transmla"])
def test_a_converted_models_step_is_the_formula(preset: str, form: str, base: Path) -> None:
    """Layers of different ranks, so that no width is taken for another one."""
    facts = read_facts(str(base))
    spec = spec_from_preset(preset, keep=0.6, recipe={"factor_form": form}, layer_ranks=[7, 12, 21, 30])
    plan = make_plan(spec, facts)
    plan.raise_if_blocked()
    model = MLAForCausalLM(mla_config(facts, plan)).eval()
    _, after = decode_flops(facts, plan, CONTEXT)
    assert after == counted(model) + 2 * norm_weights(facts)


def test_only_the_pre_rope_layout_grows_with_what_it_rebuilds(base: Path) -> None:
    """Per cached token and layer: 2 (n_kv d_h r + n_h d_h + n_h r) against 2 n_h (2 r + d_r)."""
    facts = read_facts(str(base))
    heads, kv, dims = facts.heads, facts.kv_heads, facts.head_dim
    for preset, each in (
        ("quality", lambda rank, _: kv * dims * rank + heads * dims + heads * rank),
        ("fast", lambda rank, rope: heads * (2 * rank + rope)),
    ):
        plan = make_plan(spec_from_preset(preset, keep=0.5), facts)
        layer = plan.layers[0]
        short, long = (decode_flops(facts, plan, context)[1] for context in (100, 101))
        assert long - short == 2 * facts.layers * each(layer.kv_lora_rank, layer.qk_rope_head_dim)
