# SPDX-License-Identifier: Apache-2.0
"""One real conversion of every family: engine, export, a fresh process that loads the folder."""

from pathlib import Path

import pytest

from core.engine import convert
from core.evaluate import load_model
from core.events import NeverCancel
from core.planning import make_plan
from core.presets import spec_from_preset
from core.settings import Settings
from core.weights.experts import stacked_infos
from core.weights.tensors import TensorSource
from core.workspace import Workspace
from tests.engine.list_sink import ListSink
from tests.families.conftest import Tiny

# test_family_exact.py has every preset on every family; a process and an export take their time
PRESETS = {
    "qwen2 windows": "mha2mla",
    "mistral": "fast",
    "phi3 partly rotary": "mha2mla",
    "gemma2": "fast",
    "gemma3": "quality",
    "qwen3_moe": "mha2mla",
    "gpt_neox": "quality",
    "opt": "quality",
    "gpt2": "mha2mla",
}


@pytest.mark.usefixtures("warm_verification")
@pytest.mark.parametrize("name", PRESETS)
def test_a_checkpoint_converts_and_loads_in_a_fresh_process(
    name: str, families: dict[str, Tiny], sample_text: Path, tmp_path: Path
) -> None:
    """The engine itself compares logits and cached bytes of the folder; tensors have the model's names."""
    tiny, sink = families[name], ListSink()
    spec = spec_from_preset(
        PRESETS[name],
        model=str(tiny.folder),
        keep=0.45,
        calibration={"text": str(sample_text), "tokens": 480, "context": 96},
        evaluation=None,
    )
    workspace = Workspace(work=tmp_path / "out.partial", result=tmp_path / "out")
    convert(spec, workspace, sink, NeverCancel(), Settings(data_dir=tmp_path / "home"))
    metrics = sink.metrics
    assert metrics["kv_bytes_per_token_measured"] == metrics["kv_bytes_per_token_formula"]
    assert metrics["kv_bytes_per_token_measured"] <= 0.45 * tiny.facts.kv_bytes_per_token
    # the probe ran in the stored dtype, and so did the process: float32 sums in the same order
    assert metrics["logits_difference"] < 1e-4
    model = load_model(workspace.result, dtype=None, device="cpu")
    stored = stacked_infos(TensorSource(workspace.result).infos, tiny.family.experts)
    tied = set(model.all_tied_weights_keys) - stored.keys()
    assert stored.keys() == model.state_dict().keys() - tied
    assert same_outside_attention(tiny, workspace.result)


def same_outside_attention(tiny: Tiny, result: Path) -> bool:
    """MLPs, routers, experts, embeddings: every tensor outside attention has the original's bytes."""
    before, after = TensorSource(tiny.folder, tiny.family), TensorSource(result)
    attention = tuple(tiny.family.attention.format(i=index) + "." for index in range(tiny.facts.layers))
    kept = [name for name in before.infos if not name.startswith(attention)]
    return len(kept) > 10 and all(before.read(name).equal(after.read(name)) for name in kept)


@pytest.mark.usefixtures("warm_verification")
@pytest.mark.parametrize("name", ["opt", "qwen2 windows"])
def test_linear_layers_with_biases_become_smaller(
    name: str, families: dict[str, Tiny], sample_text: Path, tmp_path: Path
) -> None:
    """OPT's MLP has no gate; the engine compares the reloaded folder's logits with those in memory."""
    tiny, sink = families[name], ListSink()
    spec = spec_from_preset(
        "latentllm",
        model=str(tiny.folder),
        weights_keep=0.7,
        calibration={"text": str(sample_text), "tokens": 480, "context": 96},
        evaluation=None,
    )
    workspace = Workspace(work=tmp_path / "out.partial", result=tmp_path / "out")
    convert(spec, workspace, sink, NeverCancel(), Settings(data_dir=tmp_path / "home"))
    assert sink.metrics["logits_difference"] < 1e-4
    assert sink.metrics["linear_parameters_after"] <= 0.7 * sink.metrics["linear_parameters_before"]


@pytest.mark.parametrize("name", ["gpt2", "gpt_neox", "phi3 partly rotary", "qwen3", "mixtral"])
def test_linear_layers_that_cannot_be_factored_are_refused_by_name(
    name: str, families: dict[str, Tiny]
) -> None:
    facts = families[name].facts
    found = make_plan(spec_from_preset("quality", keep=0.5, weights_keep=0.8), facts)
    problem = next(one for one in found.problems if one.field == "weights_keep")
    assert facts.family in problem.message
    assert "weights_keep" in problem.hint
