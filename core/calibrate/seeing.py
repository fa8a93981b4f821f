# SPDX-License-Identifier: Apache-2.0
"""What the original's vision tower and projector make of the calibration's images, once, kept in a file.

The tower is in memory only while images are seen, a few at a time; after that windows find their rows in
the file (core/weights/skeleton.py puts them where an image stands).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core.arch import Architecture
from core.calibrate.picture_windows import Picture
from core.calibrate.pictures import open_image
from core.calibrate.states import StateFiles
from core.errors import ModelError
from core.process import return_layer_memory
from core.weights.processor import load_processor
from core.weights.skeleton import seeing_model

# images that go through the tower together
BATCH = 8
_KIND, _ONLY = "pictures", 0


def picture_states(folder: Path, pictures: Sequence[Picture], width: int) -> StateFiles | None:
    """Where the rows of all images are, or will be, in `folder`: (rows, 1, d); None without images."""
    rows = sum(picture.tokens for picture in pictures)
    return StateFiles(folder, _KIND, (rows, 1, width)) if rows else None


class Seeing:
    """One pass of `pictures` through the tower of the original in `folder`, into `states`."""

    def __init__(
        self,
        folder: Path,
        family: Architecture,
        pictures: Sequence[Picture],
        states: StateFiles | None,
        device: torch.device,
    ) -> None:
        self._folder = folder
        self._family = family
        self._pictures = pictures
        self._states = states
        self._device = device

    @property
    def step_count(self) -> int:
        """Steps that `steps` takes: one for each batch of images."""
        return -(-len(self._pictures) // BATCH)

    @property
    def finished_steps(self) -> int:
        """Of those steps, how many an earlier attempt left finished: all or none."""
        return self.step_count if self._states is None or self._states.has(_ONLY) else 0

    def steps(self) -> Iterator[str]:
        """Yield a line for every finished step."""
        if self._states is None:
            return
        count = len(self._pictures)
        ends = [min(first + BATCH, count) for first in range(0, count, BATCH)]
        if self._states.has(_ONLY):
            yield from (f"image {end} of {count}: seen before" for end in ends)
            return
        model, processor = (
            seeing_model(self._folder, self._family, self._device),
            load_processor(self._folder),
        )
        with self._states.writing(_ONLY) as append:
            for end in ends:
                batch = self._pictures[end - 1 - (end - 1) % BATCH : end]
                append(self._rows(model, processor, batch)[:, None])
                yield f"image {end} of {count}: seen"
        del model
        return_layer_memory()

    @torch.no_grad()
    def _rows(self, model: Any, processor: Any, batch: Sequence[Picture]) -> Tensor:
        """(rows, d) of some images; raises ModelError when they are not those that were counted."""
        images = processor.image_processor([open_image(one.path) for one in batch], return_tensors="pt")
        config = model.config
        given = {
            "pixel_values": images["pixel_values"].to(self._device),
            "vision_feature_layer": config.vision_feature_layer,
            "vision_feature_select_strategy": config.vision_feature_select_strategy,
        }
        # towers that take images of any size ask for it
        given |= {"image_sizes": images["image_sizes"]} if "image_sizes" in images else {}
        found = model.get_image_features(**given).pooler_output
        for one, rows in zip(batch, found, strict=True):
            if len(rows) != one.tokens:
                raise ModelError(
                    f"the processor makes {one.tokens} tokens of '{one.path.name}', the tower {len(rows)}",
                    hint="fetch the model again: processor and model do not belong together",
                    field="model",
                )
        rows_of_all = torch.cat(list(found))
        if not torch.isfinite(rows_of_all).all():
            raise ModelError(
                "the vision tower gives infinite or undefined values",
                hint="the checkpoint is damaged or not a float checkpoint",
                field="model",
            )
        return rows_of_all
