# SPDX-License-Identifier: Apache-2.0
"""Which layers lose most: a row of small bars for the card."""

from collections.abc import Sequence

from app.ui.components.chips import source
from app.ui.format import guess


def sensitivity(losses: Sequence[float | None]) -> str:
    """`losses` in nats per token, one a layer; empty when nothing is predicted."""
    known = [0.0 if one is None else max(0.0, one) for one in losses]
    most = max(known, default=0.0)
    if all(one is None for one in losses) or not most:
        return ""
    worst = known.index(most)
    bars = "".join(
        f'<i style="height:{one / most * 100:.0f}%" title="layer {layer}: {guess(one)} nats"></i>'
        for layer, one in enumerate(known)
    )
    label = f"Predicted loss of each layer; layer {worst} loses most, {guess(most)} nats"
    return (
        f'<div class="senses"><p>Where it is lost: most in layer {worst}{source("predicted")}</p>'
        f'<div class="sense" role="img" aria-label="{label}">{bars}</div></div>'
    )
