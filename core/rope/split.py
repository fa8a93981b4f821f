# SPDX-License-Identifier: Apache-2.0
"""Part the queries and keys of one layer into what goes on rotating and what does not.

Everything is rows of affine maps of x: weights (rows, d) with the bias as a last column (d + 1).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from core.rope.pairs import from_pairs, to_pairs
from core.rope.select import Slot

WORK = torch.float64


@dataclass(frozen=True)
class RopeSplit:
    """What attention of one layer is made of; a = d + 1.

    query_nope (n_h, d_n, a)    meets key_nope, which never rotates
    query_rope (n_h, d_r, a)    meets key_rope after both rotate by inv_freq (groups, d_r/2)
    key_nope   (n_kv, d_n, a)   goes into the latent
    key_rope   (groups, d_r, a) cached rotated
    nope_rows  (n_kv, d_n)      which original key dim each row of key_nope stands for
    kept       per row of the picture, the pairs that go on rotating
    """

    query_nope: Tensor
    query_rope: Tensor
    key_nope: Tensor
    key_rope: Tensor
    inv_freq: Tensor
    nope_rows: Tensor
    kept: list[list[int]]


def affine(weight: Tensor, bias: Tensor | None) -> Tensor:
    """[W | b] in float64: (rows, d + 1)."""
    column = weight.new_zeros(weight.shape[0]) if bias is None else bias
    return torch.cat([weight.to(WORK), column.to(WORK)[:, None]], dim=1)


def by_head(query: Tensor, key: Tensor, kept: Tensor, inv_freq: Tensor) -> RopeSplit:
    """Each KV head keeps pairs of its own, its query heads follow (MHA2MLA, section 3.1).

    query (n_h * d_h, a), with the dropped pairs' constants applied; key (n_kv * d_h, a); kept (n_kv, r).
    """
    kv_heads = kept.shape[0]
    head_dim = key.shape[0] // kv_heads
    rope, nope = (dims.to(key.device) for dims in split_dims(kept, head_dim))
    heads = query.view(-1, head_dim, query.shape[1])
    group = heads.shape[0] // kv_heads
    keys = key.view(kv_heads, head_dim, -1)
    return RopeSplit(
        query_nope=gather(heads, nope.repeat_interleave(group, dim=0)),
        query_rope=gather(heads, rope.repeat_interleave(group, dim=0)),
        key_nope=gather(keys, nope),
        key_rope=gather(keys, rope),
        inv_freq=inv_freq[kept],
        nope_rows=nope,
        kept=kept.tolist(),
    )


def shared(query: Tensor, replaced: Tensor, key: Tensor, slots: list[Slot], kv_heads: int) -> RopeSplit:
    """All heads share the rotating pairs `slots` (TransMLA, section 4.2).

    query, replaced: (n_h * d_h, a) the queries, and the queries as the pairs that stop rotating meet them;
    key: (n_kv * d_h, a). What the components do not carry stays in all d_h dims of every KV head.
    """
    head_dim, width = key.shape[0] // kv_heads, key.shape[1]
    heads = query.shape[0] // head_dim
    group_of = torch.arange(heads, device=key.device) // (heads // kv_heads)
    queries, keys = to_pairs(query, heads), to_pairs(key, kv_heads)
    left = keys.clone()
    rope_keys, rope_queries = left.new_zeros(len(slots), 1, width), left.new_zeros(len(slots), heads, width)
    for index, slot in enumerate(slots):
        pairs = slice(slot.fold.first, slot.fold.last)
        encode, read = slot.fold.encode[slot.component], slot.fold.read[:, slot.component].view(-1, kv_heads)
        rope_keys[index, 0] = encode @ keys[pairs].flatten(0, 1)
        # score: conj(q) . (read beta) = conj(conj(read) q) beta
        rope_queries[index] = torch.einsum("fh,fha->ha", read.conj()[:, group_of], queries[pairs])
        left[pairs] -= read[:, :, None] * rope_keys[index, 0]
    return RopeSplit(
        query_nope=replaced.view(heads, head_dim, width),
        query_rope=from_pairs(rope_queries),
        key_nope=from_pairs(left),
        key_rope=from_pairs(rope_keys),
        inv_freq=torch.tensor([[slot.frequency for slot in slots]], dtype=WORK),
        nope_rows=torch.arange(head_dim, device=key.device).expand(kv_heads, head_dim),
        kept=_picture(slots, kv_heads),
    )


def _picture(slots: list[Slot], kv_heads: int) -> list[list[int]]:
    """Component j of a fold is shown as pair j of its frequencies, row by row: (n_kv rows, pairs each)."""
    rows: list[list[int]] = [[] for _ in range(kv_heads)]
    for slot in slots:
        row, offset = divmod(slot.component, slot.fold.last - slot.fold.first)
        rows[row].append(slot.fold.first + offset)
    return [sorted(row) for row in rows]


def unrotated(query: Tensor, key: Tensor, inv_freq: Tensor, kv_heads: int) -> RopeSplit:
    """Layout pre-rope: the whole key goes into the latent, and rotates after it was rebuilt."""
    head_dim = key.shape[0] // kv_heads
    heads = query.view(-1, head_dim, query.shape[1])
    return RopeSplit(
        query_nope=heads[:, :0],
        query_rope=heads,
        key_nope=key.view(kv_heads, head_dim, -1),
        key_rope=key.new_zeros(0, head_dim, key.shape[1]),
        inv_freq=inv_freq[None],
        nope_rows=torch.arange(head_dim, device=key.device).expand(kv_heads, head_dim),
        kept=[[] for _ in range(kv_heads)],
    )


def split_dims(kept: Tensor, head_dim: int) -> tuple[Tensor, Tensor]:
    """(rotary dims, other dims) of each KV head in the half-split layout: pair f is dims f and f + d_h/2.

    kept (n_kv, r) -> (n_kv, 2r) = [first halves, second halves] and (n_kv, d_h - 2r), ascending.
    """
    rope = torch.cat([kept, kept + head_dim // 2], dim=1)
    is_rope = torch.zeros(kept.shape[0], head_dim, dtype=torch.int64).scatter(1, rope, 1)
    # a stable sort puts the other dims first and leaves them ascending
    nope = is_rope.sort(dim=1, stable=True).indices[:, : head_dim - rope.shape[1]]
    return rope, nope


def gather(heads: Tensor, dims: Tensor) -> Tensor:
    """Pick rows `dims` (n, m) of each head from (n, d_h, a) -> (n, m, a)."""
    return heads.gather(1, dims[:, :, None].expand(-1, -1, heads.shape[2]))
