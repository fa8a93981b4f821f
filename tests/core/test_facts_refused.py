# SPDX-License-Identifier: Apache-2.0
"""Models that cannot be converted say why, from the header alone."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from core.arch import ARCHITECTURES
from core.errors import ModelError
from core.facts import ModelFacts, read_facts

Published = Mapping[str, Mapping[str, Any]]
Shapes = dict[str, tuple[int, ...]]


@pytest.mark.parametrize("rope_type", ["dynamic", "longrope", "su", "mrope"])
def test_rope_that_changes_with_the_context_is_refused(
    rope_type: str, published: Published, facts: Callable[..., ModelFacts]
) -> None:
    found = facts({**published["small"], "rope_scaling": {"rope_type": rope_type, "factor": 2.0}})
    (problem,) = found.problems
    assert rope_type in problem.message
    assert "llama3" in problem.hint
    with pytest.raises(ModelError):
        found.raise_if_unsupported()


@pytest.mark.parametrize("model_type", ["mamba", "bloom", "deepseek_v3"])
def test_another_architecture_is_refused_by_name_with_what_there_is(
    model_type: str, published: Published, facts: Callable[..., ModelFacts]
) -> None:
    (problem,) = facts({**published["small"], "model_type": model_type}).problems
    assert f"'{model_type}'" in problem.message
    assert all(kind in problem.hint for family in ARCHITECTURES for kind in family.model_types)


MAMBA = {"d_model": 768, "hidden_size": 768, "state_size": 16, "num_hidden_layers": 24, "vocab_size": 50280}
BLOOM = {"n_embed": 1024, "hidden_size": 1024, "n_head": 16, "n_layer": 24, "vocab_size": 250880}
T5 = {"d_model": 512, "d_kv": 64, "d_ff": 2048, "num_heads": 8, "num_layers": 6, "vocab_size": 32128}


@pytest.mark.parametrize(("model_type", "config"), [("mamba", MAMBA), ("bloom", BLOOM), ("t5", T5)])
def test_a_family_with_other_words_for_its_sizes_is_refused_by_name(
    model_type: str,
    config: dict[str, Any],
    published: Published,
    hollow: Callable[..., Path],
    shapes_of: Callable[..., Shapes],
) -> None:
    folder = hollow({"model_type": model_type, **config}, shapes=shapes_of(published["small"]))
    with pytest.raises(ModelError) as caught:
        read_facts(str(folder))
    assert caught.value.message == f"models of type '{model_type}' cannot be converted yet"
    assert "llama" in caught.value.hint


@pytest.mark.parametrize(
    "name", ["../model.safetensors", "/etc/passwd", "sub/model.safetensors", "..\\x", ".."]
)
def test_an_index_that_leaves_the_folder_is_refused(
    name: str, published: Published, hollow: Callable[..., Path]
) -> None:
    folder = hollow(published["small"])
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(ModelError, match="outside the folder"):
        read_facts(str(folder))


def test_a_vision_model_around_a_llama_is_refused_by_its_own_name(
    published: Published, facts: Callable[..., ModelFacts], shapes_of: Callable[..., Shapes]
) -> None:
    config = {"model_type": "llava_next", "text_config": published["small"]}
    (problem,) = facts(config, shapes=shapes_of(published["small"])).problems
    assert "'llava_next'" in problem.message


@pytest.mark.parametrize(
    ("settings", "dtype"),
    [({"quantization_config": {"quant_method": "gptq"}}, "F16"), ({}, "I8"), ({}, "F8_E4M3")],
)
def test_a_quantised_checkpoint_is_refused(
    settings: dict[str, Any], dtype: str, published: Published, facts: Callable[..., ModelFacts]
) -> None:
    (problem,) = facts({**published["small"], **settings}, dtype=dtype).problems
    assert "quantised" in problem.message
    assert problem.hint


def test_sliding_windows_are_refused(published: Published, facts: Callable[..., ModelFacts]) -> None:
    (problem,) = facts({**published["small"], "sliding_window": 4096}).problems
    assert "sliding_window" in problem.message


@pytest.mark.parametrize("projection", ["q_proj", "k_proj", "v_proj", "o_proj"])
def test_a_wrong_shape_names_its_tensor(
    projection: str, published: Published, facts: Callable[..., ModelFacts], shapes_of: Callable[..., Shapes]
) -> None:
    name = f"model.layers.1.self_attn.{projection}.weight"
    shapes = shapes_of(published["small"])
    (problem,) = facts(published["small"], shapes=shapes | {name: (48, 48)}).problems
    assert name in problem.message
    assert "(48, 48)" in problem.message
    del shapes[name]
    (problem,) = facts(published["small"], shapes=shapes).problems
    assert problem.message == f"{name} is missing"


def test_heads_that_do_not_divide_are_refused(published: Published, facts: Callable[..., ModelFacts]) -> None:
    (problem,) = facts({**published["small"], "num_key_value_heads": 3}).problems
    assert "4 heads do not divide into 3 KV heads" in problem.message


def test_an_odd_head_is_refused(published: Published, facts: Callable[..., ModelFacts]) -> None:
    (problem,) = facts({**published["small"], "head_dim": 15}).problems
    assert "head_dim 15 is odd" in problem.message


@pytest.mark.parametrize(
    "broken",
    [
        {"hidden_size": None},
        {"hidden_size": "64"},
        {"hidden_size": 0},
        {"num_attention_heads": -4},
        {"num_hidden_layers": 2.5},
        {"num_key_value_heads": "two"},
        {"num_key_value_heads": -2},
        {"head_dim": "wide"},
        {"head_dim": -16},
        {"hidden_size": 2},  # smaller than the number of heads
        {"rope_scaling": "llama3"},
        {"rope_theta": "hot"},
        {"max_position_embeddings": "long"},
        {"text_config": 3},
    ],
    ids=str,
)
def test_a_config_that_makes_no_sense_is_refused_not_a_crash(
    broken: dict[str, Any],
    published: Published,
    hollow: Callable[..., Path],
    shapes_of: Callable[..., Shapes],
) -> None:
    """Either the config is called unusable, or the facts carry a problem."""
    folder = hollow({**published["small"], **broken}, shapes=shapes_of(published["small"]))
    with pytest.raises(ModelError) as caught:
        read_facts(str(folder)).raise_if_unsupported()
    assert caught.value.hint
    assert caught.value.field == "model"


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "\x00\xff"])
def test_a_config_that_does_not_parse_is_refused(
    text: str, published: Published, hollow: Callable[..., Path]
) -> None:
    folder = hollow(published["small"])
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelError, match=r"config\.json"):
        read_facts(str(folder))


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"weight_map": {"a": 3}}', '{"weight_map": []}'])
def test_an_index_that_does_not_parse_is_refused(
    text: str, published: Published, hollow: Callable[..., Path]
) -> None:
    folder = hollow(published["small"])
    (folder / "model.safetensors.index.json").write_text(text)
    with pytest.raises(ModelError, match=r"index\.json does not parse"):
        read_facts(str(folder))


@pytest.mark.parametrize(
    "model",
    [
        "",
        "no-such-model",
        "/no/such/folder",
        "./x",
        "a/b/c",
        "a b/c",
        "a/b--c",
        "a/b..c",
        "a/b-",
        "a/" + 100 * "b",
        "~nobody-here/x",
        "x" * 5000,
    ],
)
def test_a_name_that_leads_nowhere_is_refused_with_what_to_give(model: str) -> None:
    with pytest.raises(ModelError) as caught:
        read_facts(model)
    assert "local folder" in caught.value.hint
    assert caught.value.field == "model"
