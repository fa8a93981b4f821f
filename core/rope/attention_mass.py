# SPDX-License-Identifier: Apache-2.0
"""How far back each head looks: its attention probability by distance, after RoPE."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from core.rope.score_rule import ScoreRule

WORK = torch.float64  # of the sums; one softmax is computed in the states' own precision
# logits computed at once, over all heads: 64 MB in float32, whatever the context
_LOGITS = 1 << 24


class AttentionMass:
    """Running sums of causal attention probabilities, per query head and distance t - s."""

    def __init__(self, heads: int, kv_heads: int, context: int, rule: ScoreRule) -> None:
        self._mass = torch.zeros(heads, context, dtype=WORK)
        self._kv_heads = kv_heads
        self._rule = rule
        self._queries = 0

    def add(self, query: Tensor, key: Tensor, cos: Tensor, sin: Tensor) -> None:
        """Add one window: query (T, n_h * d_h) and key (T, n_kv * d_h) before RoPE, cos and sin (T, d_h)."""
        heads, context = self._mass.shape
        rotated_query = rotate(query, heads, cos, sin) * self._rule.scaling
        rotated_key = rotate(key, self._kv_heads, cos, sin)
        grouped = rotated_query.view(self._kv_heads, -1, *rotated_query.shape[1:])
        rows = max(1, _LOGITS // (heads * context))
        for first in range(0, context, rows):
            block = grouped[:, :, first : first + rows]
            last = first + block.shape[2]
            logits = (block @ rotated_key[:, None, :last].transpose(-1, -2)).flatten(0, 1)
            unseen = self._rule.unseen(first, logits)
            probabilities = self._rule.capped(logits).masked_fill(unseen, -torch.inf).softmax(dim=-1)
            self._mass[:, :last] += by_distance(probabilities).cpu().to(WORK)
        self._queries += context

    def mean(self) -> Tensor:
        """(n_h, context): the mass a mean query puts on distance 0, 1, …; each row sums to 1.

        A distance longer than a query's past counts as zero: these are the weights of a sum over all pairs
        (t, s), not probabilities given that the distance exists.
        """
        return self._mass / max(self._queries, 1)


def rotate(states: Tensor, heads: int, cos: Tensor, sin: Tensor) -> Tensor:
    """RoPE in the half-split layout: (T, n * d_h) -> (n, T, d_h)."""
    split = states.view(states.shape[0], heads, -1).transpose(0, 1)
    first, second = split.chunk(2, dim=-1)
    return split * cos + torch.cat([-second, first], dim=-1) * sin


def by_distance(probabilities: Tensor) -> Tensor:
    """Sum over queries (n, B, S) -> (n, S) of what they give to distance 0, 1, …

    The last of the B queries sits at the last of the S keys. Reversed keys, one more column per row: read
    with rows that are one shorter, row b is shifted by b, and distances stand below each other.
    """
    heads, queries, keys = probabilities.shape
    sheared = pad(probabilities.flip(-1), (0, queries)).flatten(1)[:, :-queries]
    return sheared.view(heads, queries, keys + queries - 1).sum(dim=1)[:, queries - 1 :]
