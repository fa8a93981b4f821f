# SPDX-License-Identifier: Apache-2.0
"""What an unrotated pair can say of a rotated one: the moments behind rope.derotate = expected."""

import torch
from torch import Tensor

from core.rope.attention_mass import rotate
from core.rope.score_rule import ScoreRule

WORK = torch.float64  # of the sums; one softmax is computed in the states' own precision
# logits computed at once, over all heads: 64 MB in float32, whatever the context
_LOGITS = 1 << 24


class DerotationMoments:
    """Running sums of the least-squares fit in core/rope/derotate.py, one constant per query head and pair.

    The gradient at a logit is dL/ds = p (dL/dp - sum p dL/dp), with dL/dp = dL/do . v of the head's output o,
    times the slope of a soft-cap.
    """

    def __init__(self, heads: int, kv_heads: int, head_dim: int, rule: ScoreRule) -> None:
        self._cross = torch.zeros(heads, head_dim // 2, dtype=torch.complex128)
        self._energy = torch.zeros(heads, head_dim // 2, dtype=WORK)
        self._kv_heads = kv_heads
        self._rule = rule

    def add(self, states: tuple[Tensor, ...], gradient: Tensor, rotation: tuple[Tensor, Tensor]) -> None:
        """Add one window: states = q (T, n_h d_h), k and v (T, n_kv d_h) before RoPE.

        gradient (T, n_h d_h) = dL/do; rotation: cos and sin, (T, d_h).
        """
        query, key, value = states
        heads, context = len(self._energy), query.shape[0]
        group = heads // self._kv_heads
        cos, sin = rotation
        # a scaling of cos and sin (yarn) multiplies every score, rotated or not: it has no part in the fit
        size = (cos.square() + sin.square()).sqrt()
        plain = query.view(context, heads, -1).transpose(0, 1)
        turned = rotate(query, heads, cos / size, sin / size)
        scores_from = rotate(query, heads, cos, sin) * self._rule.scaling
        rotated_key = rotate(key, self._kv_heads, cos, sin).repeat_interleave(group, dim=0)
        values = value.view(context, self._kv_heads, -1).transpose(0, 1).repeat_interleave(group, dim=0)
        gradients = gradient.view(context, heads, -1).transpose(0, 1)
        unrotated, rotated = torch.zeros_like(plain), torch.zeros_like(plain)
        rows = max(1, _LOGITS // (heads * context))
        for first in range(0, context, rows):
            part = slice(first, first + rows)
            last = min(first + rows, context)
            logits = scores_from[:, part] @ rotated_key[:, :last].transpose(1, 2)
            logits, unseen = self._rule.capped(logits), self._rule.unseen(first, logits)
            found = logits.masked_fill(unseen, -torch.inf).softmax(dim=-1)
            change = gradients[:, part] @ values[:, :last].transpose(1, 2)
            slope = found * (change - (found * change).sum(dim=-1, keepdim=True)) * self._rule.slope(logits)
            unrotated[:, :last] += slope.transpose(1, 2) @ plain[:, part]
            rotated[:, :last] += slope.transpose(1, 2) @ turned[:, part]
        # back to the frame of the unrotated key: b_s carries e^{i(t-s)theta}
        back = rotate(rotated.transpose(0, 1).flatten(1), heads, cos / size, -sin / size)
        self._fit(unrotated, back, key.view(context, self._kv_heads, -1).transpose(0, 1), group)

    def _fit(self, unrotated: Tensor, rotated: Tensor, key: Tensor, group: int) -> None:
        """Add sum_s |k|^2 b conj(a) and sum_s |k|^2 |a|^2; all (n, T, d_h)."""
        a, b, k = (torch.complex(*part.to(WORK).chunk(2, dim=-1)) for part in (unrotated, rotated, key))
        weight = k.abs().square().repeat_interleave(group, dim=0)
        self._cross += (weight * b * a.conj()).sum(dim=1).cpu()
        self._energy += (weight * a.abs().square()).sum(dim=1).cpu()

    def constants(self) -> Tensor:
        """(2, n_h, d_h/2): real and imaginary parts of c; 1 where a pair says nothing at all."""
        dead = self._energy <= torch.finfo(WORK).tiny
        found = self._cross / torch.where(dead, 1.0, self._energy)
        found = torch.where(dead, torch.ones_like(found), found)
        return torch.stack([found.real, found.imag])
