# SPDX-License-Identifier: Apache-2.0
"""How much arithmetic decoding one token takes, before and after. Integers only, no torch.

A multiply-add counts as two FLOPs; norms, rotations and softmax, which grow with no product of widths, are
left out. T is the number of cached tokens the new one looks at, itself included.
"""

from core.facts import ModelFacts
from core.planning import LayerPlan, Plan, read_widths
from core.widths import PRE_ROPE


def decode_flops(facts: ModelFacts, plan: Plan, context: int) -> tuple[int, int]:
    """(before, after) FLOPs of the whole model for one token of one sequence at `context` tokens."""
    rest = weights_outside_attention(facts, plan)
    before = sum(layer.parameters_before + original_attention(facts, context) for layer in plan.layers)
    after = sum(
        projections(facts, layer) + attention(facts, layer, context) - layer.linears_saved
        for layer in plan.layers
    )
    return 2 * (rest + before), 2 * (rest + after)


def weights_outside_attention(facts: ModelFacts, plan: Plan) -> int:
    """Weights of MLPs and head: each meets the token once.

    An embedding is looked up, not multiplied, and so are positions that were learned.
    """
    rows = (0 if facts.is_tied else facts.vocab_size) + (0 if facts.rotary_dim else facts.max_context)
    embedding = rows * facts.hidden_size
    inside = sum(layer.parameters_before for layer in plan.layers)
    return max(0, facts.parameters - inside - embedding)


def original_attention(facts: ModelFacts, context: int) -> int:
    """Multiply-adds of q k^T and of the weighted sum of values: 2 T n_h d_h."""
    return 2 * context * facts.heads * facts.head_dim


def projections(facts: ModelFacts, layer: LayerPlan) -> int:
    """Multiply-adds with W_q, W_down, U_v and W_O, and, absorbed, with U_k, for the new token alone.

    U_v: n_h d_h r_v, behind the weighted sum of latents. U_k: n_h d_n r_k, q~ = U_k^T q (DeepSeek-V2, arXiv
    2405.04434, section 2.1.2: both are absorbed, so keys and values are never made). W_q and W_O count whole:
    what factors of them save is LayerPlan.linears_saved. Where queries and keys are normed, the original's
    projections come first.
    """
    heads, width = facts.heads, facts.hidden_size
    rope_numbers = layer.groups * layer.qk_rope_head_dim
    query_width, latent_width, front = read_widths(facts)
    query = query_width * heads * (layer.qk_nope_head_dim + layer.qk_rope_head_dim)
    spared = layer.kv_lora_rank**2 if layer.kv_identity else 0
    down = latent_width * (layer.kv_lora_rank + rope_numbers) - spared
    absorbed = heads * layer.qk_nope_head_dim * layer.k_rank
    return front + query + down + absorbed + heads * facts.head_dim * (layer.v_rank + width)


def attention(facts: ModelFacts, layer: LayerPlan, context: int) -> int:
    """Multiply-adds over the cached tokens.

    latent+rope (absorbed): T n_h (r_k + d_r) for scores, T n_h r_v for the sum of latents.
    pre-rope: T n_kv d_h r_k to rebuild the keys, T n_h d_h for scores, T n_h r_v for the sum of latents.
    """
    values = facts.heads * layer.v_rank
    if layer.layout == PRE_ROPE:
        rebuilt = facts.kv_heads * facts.head_dim * layer.k_rank
        return context * (rebuilt + facts.heads * facts.head_dim + values)
    return context * (facts.heads * (layer.k_rank + layer.qk_rope_head_dim) + values)
