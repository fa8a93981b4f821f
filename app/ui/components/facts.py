# SPDX-License-Identifier: Apache-2.0
"""A model in one line and a half."""

from html import escape

from app.ui.components.chips import source, term
from app.ui.format import THIN, context, count, size
from core.facts import ModelFacts


def facts_line(facts: ModelFacts | None) -> str:
    """Shape of the model and what its cache costs; empty while it is not known."""
    if facts is None:
        return ""
    heads = (
        f"{facts.heads} heads, {facts.kv_heads} KV"
        if facts.kv_heads != facts.heads
        else f"{facts.heads} heads"
    )
    shape = [
        escape(facts.family),
        f"{facts.layers} layers",
        f"{heads} × {facts.head_dim} ({facts.attention_kind})",
        f"{count(facts.parameters)} parameters",
        escape(facts.dtype),
    ]
    if facts.max_context:
        shape.append(f"context{THIN}{context(facts.max_context)}")
    return (
        f'<p class="facts">{" · ".join(shape)}</p><p class="facts">{term("KV cache", "kv")} '
        f"<b>{size(facts.kv_bytes_per_token)}</b> per token {source('calculated')}</p>"
    )
