# SPDX-License-Identifier: Apache-2.0
"""Images in windows of token ids: ids behind any vocabulary, each a row of what the vision tower made.

So windows stay plain tensors of ids, and only what embeds them (core/weights/skeleton.py), what weighs them
and what asks for a next token knows that there are images.
"""

import torch
from torch import Tensor

# id of row 0; no vocabulary comes near
FIRST_ROW = 1 << 32


def is_picture(windows: Tensor) -> Tensor:
    """Which ids stand for a part of an image."""
    return windows >= FIRST_ROW


def token_weights(windows: Tensor, image_weight: float) -> Tensor | None:
    """How much each token counts, float32: `image_weight` for those of images, 1 for text; None if all do."""
    seen = is_picture(windows)
    if not seen.any():
        return None
    return torch.ones(windows.shape).masked_fill(seen, image_weight)


def predicts_text(windows: Tensor) -> Tensor:
    """Of ids (n, context): where the next token is one of text, so that the model can be asked for it.

    The last token of a window has no next one; it counts when it is text itself.
    """
    return ~is_picture(torch.cat([windows[:, 1:], windows[:, -1:]], dim=1))


def seen_from(tokens: Tensor, count: int) -> Tensor:
    """`count` of the ids (n,) that hold both image and text where they can: half before the first change."""
    seen = is_picture(tokens)
    changes = (seen[1:] != seen[:-1]).nonzero().flatten()
    middle = int(changes[0]) + 1 if len(changes) else 0
    start = max(0, min(middle - count // 2, len(tokens) - count))
    return tokens[start : start + count]
