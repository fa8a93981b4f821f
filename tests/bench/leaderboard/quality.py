# SPDX-License-Identifier: Apache-2.0
"""Measure converted models against one original that is run once per window.

The original's final hidden states are kept on disk in float32, 1.2 MB for 512 tokens of the demo where its
logits would be 100 MB; its head is applied to them anew, so nothing is rounded.
"""

import hashlib
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from core.calibrate.text import read_text
from core.calibrate.tokens import tokenize
from core.evaluate import PositionTally, WholeModel, compare_predictors, load_model
from leaderboard.results import Bucket, Quality
from leaderboard.setting import Setting


class RecordedModel:
    """A Predictor that computes the hidden states of a window once and for all."""

    def __init__(self, model: WholeModel, folder: Path) -> None:
        self._model = model
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def hidden(self, window: Tensor) -> Tensor:
        path = self._folder / f"{hashlib.sha256(window.numpy().tobytes()).hexdigest()[:24]}.safetensors"
        if not path.is_file():
            partial = path.with_suffix(".partial")
            save_file({"hidden": self._model.hidden(window).contiguous()}, partial)
            partial.rename(path)
        return load_file(path)["hidden"]

    def logits(self, hidden: Tensor) -> Tensor:
        return self._model.logits(hidden)


class Judge:
    """Compares converted models with one original on the texts of a setting."""

    def __init__(self, base: Path, setting: Setting, records: Path) -> None:
        self._setting = setting
        self._base = RecordedModel(WholeModel(load_model(base, dtype=torch.float32, device="cpu")), records)
        names = {*setting.texts, setting.long_text}
        self._ids = {name: tokenize(base, read_text(name)) for name in names}

    def quality(self, converted: Path) -> dict[str, Quality]:
        """Per text, at the setting's context; computed in float32 as `mla-workbench evaluate` does."""
        model = WholeModel(load_model(converted, dtype=torch.float32, device="cpu"))
        asked = self._setting
        return {
            text: Quality.model_validate(
                vars(compare_predictors(self._base, model, self._ids[text], asked.context, asked.windows))
            )
            for text in asked.texts
        }

    def positions(self, converted: Path) -> tuple[Bucket, ...]:
        """Perplexity ratio by position in long windows."""
        model = WholeModel(load_model(converted, dtype=torch.float32, device="cpu"))
        asked, tally = self._setting, PositionTally(self._setting.long_context)
        ids = self._ids[asked.long_text]
        compare_predictors(
            self._base, model, ids, asked.long_context, asked.long_windows, on_scores=tally.add
        )
        return tuple(
            Bucket(start=one.start, end=one.end, tokens=one.tokens, ratio=one.ratio)
            for one in tally.buckets()
        )
