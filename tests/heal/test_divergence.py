# SPDX-License-Identifier: Apache-2.0
"""The loss at the head, whose gradient is written out by hand, against the same loss by autograd."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from core.heal.divergence import ROWS, HeadLoss, Mixture, Wanted
from core.heal.targets import top_k
from core.weights.head import Head

VOCABULARY, WIDTH = 50, 12
# more than one block of logits, the last one not full
COUNT = ROWS + 7
# float32 sums over some thousand numbers of size 1
CLOSE = {"rtol": 2e-4, "atol": 2e-5}


def some(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states, head, and logits of a teacher, which has a tail that matters."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(COUNT, WIDTH, generator=generator, requires_grad=True)
    weight = torch.randn(VOCABULARY, WIDTH, generator=generator, requires_grad=True)
    return hidden, weight, 2 * torch.randn(COUNT, VOCABULARY, generator=generator)


def wanted_of(teacher: Tensor, k: int, temperature: float) -> Wanted:
    index, log_p, log_rest = top_k(teacher, k, temperature)
    next_token = torch.arange(COUNT) % VOCABULARY
    next_token[::5] = -1
    return Wanted(index, log_p, log_rest, next_token)


def naive(logits: Tensor, teacher: Tensor, wanted: Wanted, mixture: Mixture) -> Tensor:
    """The same loss in the open: classes are gathered and the others summed, in float64."""
    p = (teacher.double() / mixture.temperature).softmax(-1)
    q = (logits.double() / mixture.temperature).softmax(-1)
    outside = torch.ones_like(p).scatter(1, wanted.index, 0.0)
    parts = [p.gather(1, wanted.index)], [q.gather(1, wanted.index)]
    if wanted.index.shape[1] < VOCABULARY:
        for found, of in zip(parts, (p, q), strict=True):
            found.append((of * outside).sum(-1, keepdim=True))
    mine, others = (torch.cat(found, dim=-1) for found in parts)
    kl = (mine * (mine.log() - others.log())).sum()
    text = F.cross_entropy(logits.double(), wanted.next_token, ignore_index=-1, reduction="sum")
    return (1 - mixture.cross_entropy) * mixture.temperature**2 * kl + mixture.cross_entropy * text


@pytest.mark.parametrize("k", [1, 8, VOCABULARY])
@pytest.mark.parametrize("mixture", [Mixture(), Mixture(0.3, 2.0), Mixture(1.0)], ids=str)
@pytest.mark.parametrize("softcap", [None, 3.0])
def test_loss_and_gradients_are_those_of_autograd(k: int, mixture: Mixture, softcap: float | None) -> None:
    hidden, weight, teacher = some(k)
    wanted = wanted_of(teacher, k, mixture.temperature)
    head = Head(weight, softcap)
    loss, _, _ = HeadLoss.apply(hidden, weight, head, wanted, mixture)
    expected = naive(head.logits(hidden), teacher, wanted, mixture)
    torch.testing.assert_close(loss.double(), expected, **CLOSE)
    found = torch.autograd.grad(3 * loss, (hidden, weight))
    for mine, others in zip(found, torch.autograd.grad(3 * expected, (hidden, weight)), strict=True):
        torch.testing.assert_close(mine, others, rtol=1e-3, atol=1e-3)


def test_the_whole_vocabulary_gives_the_whole_divergence() -> None:
    hidden, weight, teacher = some(0)
    _, kl, _ = HeadLoss.apply(hidden, weight, Head(weight), wanted_of(teacher, VOCABULARY, 1.0), Mixture())
    log_q = (hidden @ weight.T).log_softmax(-1)
    expected = F.kl_div(log_q, teacher.log_softmax(-1), log_target=True, reduction="sum")
    torch.testing.assert_close(kl, expected, **CLOSE)


def test_fewer_classes_never_give_more_divergence() -> None:
    """Joining classes loses information: the divergence over k + 1 of them is at most the whole one."""
    hidden, weight, teacher = some(1)
    sums = [
        float(HeadLoss.apply(hidden, weight, Head(weight), wanted_of(teacher, k, 1.0), Mixture())[1].detach())
        for k in (1, 4, 16, VOCABULARY)
    ]
    assert sums == sorted(sums)
    assert sums[0] > 0


def test_a_student_that_agrees_has_no_loss_and_no_gradient() -> None:
    hidden, weight, _ = some(2)
    wanted = wanted_of((hidden @ weight.T).detach(), 8, 1.0)
    loss, _, _ = HeadLoss.apply(hidden, weight, Head(weight), wanted, Mixture())
    (gradient,) = torch.autograd.grad(loss, hidden)
    assert abs(float(loss.detach())) < 1e-4  # float32 rounding of 135 rows
    assert float(gradient.abs().max()) < 1e-4
