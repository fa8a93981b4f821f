# SPDX-License-Identifier: Apache-2.0
"""What a plan says of a layer is what the exported config and the model class make of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from core.evaluate.kv_memory import formula_kv_bytes, measure_kv_bytes
from core.export.card import write_card
from core.export.folder import mla_config
from core.export.layout import latent_shapes
from core.facts import ModelFacts, read_facts
from core.kv_budget import latent_numbers
from core.modeling import MLAForCausalLM
from core.planning import LayerPlan, make_plan
from core.spec import JobSpec

# (groups, rotary dims, other dims, rank, k_rank, v_rank), for heads of 16 dims over 2 KV heads
WIDTHS: dict[str, tuple[int, int, int, int, int, int]] = {
    "per-head rope keys": (2, 4, 12, 10, 10, 10),
    "split latent": (2, 4, 12, 10, 3, 7),
    "shared rope key beside all dims": (1, 8, 16, 12, 12, 12),
    "one shared pair": (1, 2, 16, 9, 9, 9),
    "no rope key": (1, 0, 16, 20, 20, 20),
    "only rope keys": (2, 16, 0, 7, 0, 7),
    "pre-rope": (0, 16, 0, 11, 11, 11),
    "pre-rope, split": (0, 16, 0, 11, 4, 7),
}


def layer_plan(index: int, name: str, mean_bias: bool) -> LayerPlan:
    groups, rope, nope, rank, k_rank, v_rank = WIDTHS[name]
    return LayerPlan(
        index=index,
        layout="latent+rope" if groups else "pre-rope",
        groups=groups,
        qk_rope_head_dim=rope,
        qk_nope_head_dim=nope,
        kv_lora_rank=rank,
        k_rank=k_rank,
        v_rank=v_rank,
        mean_bias=mean_bias,
        cached_numbers=latent_numbers(rank, groups, rope),
        parameters_before=0,
        parameters_after=0,
    )


@pytest.fixture(params=[False, True], ids=["no bias", "bias"])
def facts(request: pytest.FixtureRequest, tiny_llama: Callable[..., Path]) -> ModelFacts:
    """A base of as many layers as there are widths."""
    folder = tiny_llama(num_hidden_layers=len(WIDTHS), attention_bias=request.param)
    return read_facts(str(folder))


def planned_model(facts: ModelFacts, mean_bias: bool) -> tuple[Any, list[LayerPlan]]:
    layers = [layer_plan(index, name, mean_bias) for index, name in enumerate(WIDTHS)]
    plan = make_plan(JobSpec(model=facts.folder), facts).model_copy(update={"layers": tuple(layers)})
    torch.manual_seed(0)
    return MLAForCausalLM(mla_config(facts, plan)).eval(), layers


@pytest.mark.parametrize("mean_bias", [False, True])
def test_planned_tensors_are_those_of_the_model(facts: ModelFacts, mean_bias: bool) -> None:
    """The writer allocates shards by the plan and the loader fills the model: names and shapes must agree."""
    model, layers = planned_model(facts, mean_bias)
    for layer, module in zip(layers, model.model.layers, strict=True):
        found = {name: tuple(tensor.shape) for name, tensor in module.self_attn.state_dict().items()}
        assert latent_shapes(facts, layer) == found


@pytest.mark.parametrize("mean_bias", [False, True])
def test_biases_go_where_the_layout_can_use_them(facts: ModelFacts, mean_bias: bool) -> None:
    """A mean that is made up for needs biases the base does not have; queries only have the base's."""
    model, _ = planned_model(facts, mean_bias)
    expected = facts.has_attention_bias or mean_bias
    for shape in model.config.shapes():
        is_pre_rope = shape.layout == "pre-rope"
        assert shape.q_bias == facts.has_attention_bias
        assert shape.o_bias == expected
        assert shape.k_b_bias == (expected and is_pre_rope)
        assert shape.kv_a_bias == (expected and not is_pre_rope)


@torch.no_grad()
def test_layers_of_any_widths_share_one_cache(facts: ModelFacts) -> None:
    """Eight layers of eight kinds: decode after prefill, and bytes per token as planned."""
    model, layers = planned_model(facts, mean_bias=True)
    for module in model.model.layers:
        module.self_attn.tile = 4
        for parameter in module.self_attn.parameters():
            parameter.normal_(0, 0.2)
    ids = torch.randint(2, 200, (2, 11), generator=torch.Generator().manual_seed(1))
    first = model(ids[:, :8], use_cache=True)
    rest = [model(ids[:, [t]], past_key_values=first.past_key_values).logits for t in range(8, 11)]
    # float32: logits up to 10 through eight layers
    torch.testing.assert_close(torch.cat(rest, dim=1), model(ids).logits[:, 8:], rtol=0, atol=1e-4)
    planned = 4 * sum(layer.cached_numbers for layer in layers)
    assert measure_kv_bytes(model) == formula_kv_bytes(model.config, torch.float32) == planned


def test_a_plan_no_layer_can_have_is_refused(tiny_checkpoint: Path) -> None:
    facts = read_facts(str(tiny_checkpoint))
    wrong = layer_plan(0, "pre-rope", False).model_copy(update={"qk_nope_head_dim": 4})
    with pytest.raises(ValueError, match="only rotary dims"):
        latent_shapes(facts, wrong)


@pytest.mark.parametrize("layout", ["latent+rope", "pre-rope"])
def test_the_card_says_what_reading_a_pre_rope_cache_costs(
    tiny_checkpoint: Path, tmp_path: Path, layout: str
) -> None:
    facts = read_facts(str(tiny_checkpoint))
    plan = make_plan(JobSpec(model=facts.folder), facts)
    first = plan.layers[0].model_copy(update={"layout": layout})
    plan = plan.model_copy(update={"layers": (first, *plan.layers[1:])})
    write_card(tmp_path, JobSpec(), facts, plan, {})
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert ("1 of 4 layers cache one latent" in card) == (layout == "pre-rope")
    assert "agree with them.\n\n" in card
    assert "\n\n\n" not in card
