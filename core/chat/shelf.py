# SPDX-License-Identifier: Apache-2.0
"""The models in memory: at most so many bytes, the one that was not used for longest goes first."""

import gc
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from core.chat.answer import Speaker
from core.chat.naming import PROCESS_BYTES, folder_of, weight_bytes
from core.errors import WorkbenchError
from core.evaluate.load import load_model
from core.process import return_layer_memory
from core.settings import Settings
from core.weights.index import weight_files
from core.weights.tokenizer import load_tokenizer


class NoRoomError(WorkbenchError):
    """The model does not fit the memory the chat may take."""

    reason = "too large"


@dataclass(frozen=True)
class Loaded:
    """A model on the shelf, what it counts for, and when its files were written."""

    speaker: Speaker
    bytes: int
    stamp: tuple[int, ...]


class Shelf:
    """Loads on demand. `budget` is what the whole process may take."""

    def __init__(self, settings: Settings, budget: int, device: torch.device) -> None:
        self._settings = settings
        self._budget = budget
        self._device = device
        self._models: OrderedDict[str, Loaded] = OrderedDict()

    @property
    def held(self) -> dict[str, int]:
        """Bytes of every loaded model, the one used last at the end."""
        return {name: one.bytes for name, one in self._models.items()}

    def must_wait(self, model: str, in_use: Collection[str]) -> bool:
        """Whether the models in use leave too little memory for `model`, which fits when they are done.

        Raises NoRoomError when it can never fit, and ModelError when it cannot be found.
        """
        if model in self._models:
            return False
        need, room = weight_bytes(folder_of(model, self._settings)), self._budget - PROCESS_BYTES
        if need > room:
            raise _no_room(model, need, self._budget)
        return need + sum(one.bytes for name, one in self._models.items() if name in in_use) > room

    def get(self, model: str, in_use: Collection[str]) -> Speaker:
        """`model`, loaded if need be; `must_wait` has said that there is room beside those in use.

        Raises ModelError when it cannot be loaded.
        """
        folder = folder_of(model, self._settings)
        if model not in in_use and model in self._models and self._models[model].stamp != _stamp(folder):
            del self._models[model]  # converted anew since
        if model not in self._models:
            need = weight_bytes(folder)
            self._make_room(self._budget - PROCESS_BYTES - need, in_use)
            self._models[model] = Loaded(self._load(folder), need, _stamp(folder))
        self._models.move_to_end(model)
        return self._models[model].speaker

    def _make_room(self, most: int, in_use: Collection[str]) -> None:
        for name in [*self._models]:
            if sum(self.held.values()) <= most:
                break
            if name not in in_use:
                del self._models[name]
        # modules refer to each other in circles
        gc.collect()
        return_layer_memory()

    def _load(self, folder: Path) -> Speaker:
        model: Any = load_model(folder, dtype=None, device=self._device)
        return Speaker(model, load_tokenizer(folder))


def _stamp(folder: Path) -> tuple[int, ...]:
    return tuple(file.stat().st_mtime_ns for file in weight_files(folder))


def _no_room(model: str, need: int, budget: int) -> NoRoomError:
    return NoRoomError(
        f"{model} takes {need / 1e9:.1f} GB, more than the {budget / 1e9:.1f} GB the chat may use "
        f"({PROCESS_BYTES / 1e9:.1f} GB of it for the program itself)",
        hint=f"set MLA_CHAT_MEMORY_GB to at least {(need + PROCESS_BYTES) / 1e9 + 0.1:.1f}, "
        "or choose a smaller model",
        field="models",
    )
