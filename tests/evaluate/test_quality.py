# SPDX-License-Identifier: Apache-2.0
"""Perplexity and divergence are what their definitions say."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from core.calibrate.tokens import tokenize
from core.errors import ModelError, TextError
from core.evaluate import compare, cut_windows, load_model, perplexity

# the implementation sums log-probabilities of float32 logits in float64; so does the reference, whole
ROUNDING = 1e-9


@pytest.fixture(scope="module")
def base(tiny_checkpoint: Path) -> Any:
    return load_model(tiny_checkpoint, dtype=torch.float32, device="cpu")


@pytest.fixture(scope="module")
@torch.no_grad()
def other(tiny_checkpoint: Path) -> Any:
    """The base with its weights disturbed: near enough to agree on some tokens, too far to agree on all."""
    model = load_model(tiny_checkpoint, dtype=torch.float32, device="cpu")
    generator = torch.Generator().manual_seed(5)
    for parameter in model.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)
    return model


@pytest.fixture(scope="module")
def ids(tiny_checkpoint: Path, sample_text: Path) -> torch.Tensor:
    return tokenize(tiny_checkpoint, sample_text.read_text(encoding="utf-8"))


@torch.no_grad()
def log_probabilities(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """(windows, 99, vocabulary) for three windows of 100 tokens, which no block size divides."""
    return model(ids[:300].view(3, 100)).logits[:, :-1].double().log_softmax(-1)


def test_windows_are_cut_from_the_start_without_overlap() -> None:
    assert cut_windows(torch.arange(11), 3, 2).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_a_short_text_says_what_it_has_and_needs() -> None:
    with pytest.raises(TextError, match="the text has 11 tokens, 4 windows of 3 need 12"):
        cut_windows(torch.arange(11), 3, 4)


@pytest.mark.parametrize(("context", "count"), [(1, 5), (5, 0)])
def test_windows_that_predict_nothing_are_refused(context: int, count: int) -> None:
    with pytest.raises(TextError, match="predict nothing"):
        cut_windows(torch.arange(11), context, count)


def test_perplexity_is_exp_of_the_mean_loss(base: Any, ids: torch.Tensor) -> None:
    """Against cross_entropy over all predicted tokens at once."""
    expected = F.nll_loss(log_probabilities(base, ids).flatten(0, 1), ids[:300].view(3, 100)[:, 1:].flatten())
    value, tokens = perplexity(base, ids, 100, 3)
    assert tokens == 3 * 99
    assert math.log(value) == pytest.approx(
        float(expected), abs=1e-5
    )  # batched float32 matmuls sum otherwise


def test_a_model_that_knows_nothing_has_the_vocabulary_as_perplexity(base: Any, ids: torch.Tensor) -> None:
    """Constant logits: an anchor that shares no code with the implementation."""
    silent = copy.deepcopy(base)
    silent.lm_head.weight = torch.nn.Parameter(torch.zeros_like(silent.lm_head.weight))
    assert perplexity(silent, ids, 50, 2)[0] == pytest.approx(258, rel=ROUNDING)


def test_a_head_that_does_more_than_a_product_is_refused(base: Any, ids: torch.Tensor) -> None:
    """Its logits would be measured without the soft cap or scale the model applies after its head."""

    class Scaled(type(base)):  # type: ignore[misc]
        def forward(self, *arguments: Any, **named: Any) -> Any:
            found = super().forward(*arguments, **named)
            found.logits = found.logits * 0.9
            return found

    scaled = Scaled(base.config).eval()
    with pytest.raises(ModelError, match="changes its logits after the output head"):
        perplexity(scaled, ids, 50, 2)


def test_comparison_is_the_definition(base: Any, other: Any, ids: torch.Tensor) -> None:
    """KL(base || other) in nats, top-1 agreement, and both perplexities, from whole log-probabilities."""
    p, q = log_probabilities(base, ids), log_probabilities(other, ids)
    found = compare(base, other, ids, 100, 3)
    # float32 logits of the batched reference differ in the last bits: 1e-5 of values of about one nat
    assert found.kl_to_base == pytest.approx(float((p.exp() * (p - q)).sum(-1).mean()), abs=1e-5)
    assert found.top1_agreement == pytest.approx(float((p.argmax(-1) == q.argmax(-1)).double().mean()))
    assert 0 < found.top1_agreement < 1, "these models must agree on some tokens only"
    assert found.perplexity_base == pytest.approx(perplexity(base, ids, 100, 3)[0], rel=ROUNDING)
    assert found.perplexity == pytest.approx(perplexity(other, ids, 100, 3)[0], rel=ROUNDING)
    assert found.tokens == 297


def test_a_model_does_not_diverge_from_itself(base: Any, ids: torch.Tensor) -> None:
    found = compare(base, base, ids, 64, 2)
    assert (found.kl_to_base, found.top1_agreement) == (0, 1)


def test_divergence_is_not_symmetric(base: Any, other: Any, ids: torch.Tensor) -> None:
    """The base is the reference: swapping the models must change the number."""
    there, back = compare(base, other, ids, 64, 2), compare(other, base, ids, 64, 2)
    assert abs(there.kl_to_base - back.kl_to_base) > 1e-3


def test_every_window_is_reported(base: Any, ids: torch.Tensor) -> None:
    seen: list[tuple[int, int]] = []
    compare(base, base, ids, 16, 3, on_window=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_cancelling_in_a_window_stops_there(base: Any, ids: torch.Tensor) -> None:
    """What the callback raises reaches the caller."""

    def stop(done: int, total: int) -> None:
        raise InterruptedError(f"after {done} of {total}")

    with pytest.raises(InterruptedError, match="after 1 of 3"):
        perplexity(base, ids, 16, 3, on_window=stop)
