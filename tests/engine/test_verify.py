# SPDX-License-Identifier: Apache-2.0
"""The last check of a conversion accepts the export and refuses what is not it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from core.errors import VerificationError
from core.evaluate import load_model
from core.events import NeverCancel
from core.export.verify import TOLERANCE, verify
from core.measure import measure
from core.spec import Evaluation, JobSpec

KV_BYTES = 4 * 32 * 4  # layers, half of 64 numbers, float32


class OutOfMemory:
    """What PyTorch raises between two windows on a GPU that is too small."""

    def check(self) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.fixture(scope="module")
def tokens() -> torch.Tensor:
    return torch.arange(48)[None]


def expect(folder: Path, tokens: torch.Tensor, path: Path, wrong_by: float) -> Path:
    """The file a probe leaves, off in one logit by a fraction of the largest one."""
    with torch.no_grad():
        logits = load_model(folder, dtype=None, device="cpu")(tokens).logits.float()
    logits[0, 20, 7] += wrong_by * logits.abs().max().clamp_min(1)
    save_file({"tokens": tokens, "logits": logits}, path)
    return path


@pytest.mark.usefixtures("warm_verification")
def test_verification_tells_right_from_wrong(
    tiny_checkpoint: Path,
    tiny_spec: Callable[..., JobSpec],
    convert_to: Callable[..., Any],
    tokens: torch.Tensor,
    tmp_path: Path,
) -> None:
    """Half the tolerance passes, twice the tolerance, NaN, infinity and a byte of cache too much do not."""
    result, _ = convert_to(tiny_spec(tiny_checkpoint, keep=0.5))
    allowed = TOLERANCE["float32"]
    good = expect(result, tokens, tmp_path / "good", allowed / 2)
    assert verify(result, good, "float32", KV_BYTES, NeverCancel()).kv_bytes_per_token == KV_BYTES
    with pytest.raises(VerificationError, match="the cache takes"):
        verify(result, good, "float32", KV_BYTES + 1, NeverCancel())
    for wrong_by in (2 * allowed, float("nan"), float("inf")):
        bad = expect(result, tokens, tmp_path / "bad", wrong_by)
        with pytest.raises(VerificationError, match="logits differ"):
            verify(result, bad, "float32", KV_BYTES, NeverCancel())


def test_running_out_of_memory_costs_the_figures_and_not_the_conversion(
    tiny_checkpoint: Path,
    tiny_spec: Callable[..., JobSpec],
    convert_to: Callable[..., Any],
    sample_text: Path,
) -> None:
    result, sink = convert_to(tiny_spec(tiny_checkpoint))
    evaluation = Evaluation(text=str(sample_text), context=64, windows=2)
    cpu = torch.device("cpu")
    assert list(measure(tiny_checkpoint, result, evaluation, cpu, sink, OutOfMemory())) == []
    assert "the memory ran out" in sink.of("log")[-1].message
    found = measure(tiny_checkpoint, result, evaluation, cpu, sink, NeverCancel())
    assert "perplexity_ratio" in {name for name, _, _ in found}
