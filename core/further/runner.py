# SPDX-License-Identifier: Apache-2.0
"""Do one piece of an evaluation. The original and one conversion are in memory at a time."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from core.calibrate.text import read_text
from core.evaluate import compared, load_model, perplexity
from core.evaluate.harness import run_harness
from core.evaluate.retrieval import Question, ask, make_questions
from core.further.pieces import Piece
from core.further.ready import Ready
from core.process import return_layer_memory
from core.weights.tokenizer import load_tokenizer

# (windows or questions done, of how many): raises what stops the piece
OnStep = Callable[[int, int], None]


class Runner:
    """Holds the models between pieces."""

    def __init__(self, ready: Ready) -> None:
        self._ready = ready
        self._tokenizer = load_tokenizer(ready.folders[ready.base])
        self._models: dict[str, Any] = {}
        # every model is asked the same questions
        self._questions = lru_cache(maxsize=None)(self._make_questions)

    def run(self, piece: Piece, on_step: OnStep) -> dict[str, Any]:
        """The figures of a piece, as JSON."""
        if piece.kind == "text":
            return self._text(piece, on_step)
        if piece.kind == "retrieval":
            return self._retrieve(piece, on_step)
        asked = self._ready.asked
        folder = Path(asked.harness_folder) if asked.harness_folder else None
        model = self._model(piece.model)
        return run_harness(model, self._tokenizer, piece.about, folder, asked.harness_limit)

    def _text(self, piece: Piece, on_step: OnStep) -> dict[str, Any]:
        ids, windows = self._ready.texts[piece.about], self._ready.asked.windows
        base = self._model(self._ready.base)
        if piece.model == self._ready.base:
            value, tokens = perplexity(base, ids, piece.context, windows, on_step)
            return {"perplexity": value, "tokens": tokens, "windows": windows}
        converted = self._model(piece.model)
        figures = compared(base, converted, ids, piece.context, windows, on_step, by_position=True)
        return {"windows": windows, **figures}

    def _retrieve(self, piece: Piece, on_step: OnStep) -> dict[str, Any]:
        questions, model = self._questions(piece.about, piece.context), self._model(piece.model)
        answered = []
        for index, question in enumerate(questions):
            answered.append(ask(model, self._tokenizer, question))
            on_step(index + 1, len(questions))
        return {
            "match": [one.found for one in answered],
            "choice": [float(one.is_chosen) for one in answered],
            "choices": len(questions[0].choices),
            "depths": [question.depth for question in questions],
            "tokens": [len(question.ids) for question in questions],
            "written": [one.written for one in answered],
        }

    def _make_questions(self, task: str, context: int) -> list[Question]:
        asked = self._ready.asked
        essay = read_text(asked.essay)
        return make_questions(task, self._tokenizer, context, asked.samples, asked.seed, essay)

    def _model(self, name: str) -> Any:
        if name not in self._models:
            for other in [one for one in self._models if one != self._ready.base]:
                del self._models[other]
            return_layer_memory()
            device = self._ready.device
            dtype = torch.float32 if device.type == "cpu" else None
            self._models[name] = load_model(self._ready.folders[name], dtype=dtype, device=device)
        return self._models[name]
