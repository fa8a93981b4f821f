# SPDX-License-Identifier: Apache-2.0
"""Stream text through the original model, one layer in memory, and keep what the recipe needs per layer.

Hidden states live in a file, not in memory, and statistics are one file per layer. Layer i counts as done
when its statistics exist; its hidden states are given up only after layer i+1's were written, so a run that
is killed anywhere continues with the first layer that is missing. The first windows of every layer's input
are kept as long as the backward pass (core/calibrate/fisher.py) needs them.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from core.arch import Architecture
from core.calibrate.fisher import backward_step
from core.calibrate.layer_statistics import LayerStatistics, save_tensors, statistics_file
from core.calibrate.observer import Observer, looked_at
from core.calibrate.picture_ids import token_weights
from core.calibrate.states import BATCH_TOKENS, StateFiles, in_batches
from core.calibrate.tap import tap_of
from core.errors import ModelError
from core.facts import ModelFacts
from core.linear.moments import InputObserver, save_inputs
from core.weights.skeleton import Skeleton


def collect(
    skeleton: Skeleton,
    facts: ModelFacts,
    family: Architecture,
    windows: Tensor,
    folder: Path,
    *,
    seed: int = 0,
    fisher_windows: int = 0,
    linears: bool = False,
    image_weight: float = 1.0,
    batch_tokens: int = BATCH_TOKENS,
) -> Iterator[int]:
    """Yield each layer's index as soon as its statistics are in `folder`; call again to resume.

    windows: token ids (n, context). linears: look at every linear layer's inputs, too. image_weight: what a
    token of an image counts in moments of inputs beside one of text. `folder` belongs to
    one model and one calibration text. With `fisher_windows`, call `collect_fisher` afterwards: it uses up
    the files that are left for it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    hidden = StateFiles(folder, "hidden", (*windows.shape, facts.hidden_size))
    kept = StateFiles(folder, "hidden", (fisher_windows, *hidden.shape[1:]))
    start = _start(folder, facts.layers, hidden, kept)
    for index in range(start):
        hidden.keep_first(index, fisher_windows)
        yield index
    if start == 0:
        _embed(skeleton, windows, hidden, batch_tokens)
    for index in range(start, facts.layers):
        weights = token_weights(windows, image_weight)
        forward = _Forward(skeleton, facts, family, looked_at(len(windows), seed), linears, weights)
        statistics, inputs = forward.run(index, hidden, batch_tokens)
        if linears:
            save_inputs(folder, index, inputs)
        save_tensors(statistics_file(folder, index), _tensors(statistics))
        hidden.keep_first(index, fisher_windows)
        yield index
    hidden.keep_first(facts.layers, fisher_windows)
    if not fisher_windows:
        hidden.remove_all()


def _start(folder: Path, layers: int, hidden: StateFiles, kept: StateFiles) -> int:
    """The first layer to run: the first without statistics, or 0 when states it builds on are gone."""
    start = next((i for i in range(layers) if not statistics_file(folder, i).is_file()), layers)
    fisher_windows = kept.shape[0]
    if start == layers:
        return 0 if fisher_windows and backward_step(folder, layers, kept) is None else layers
    is_whole = hidden.has(start) and (not fisher_windows or all(kept.has(i) for i in range(start)))
    return start if is_whole else 0


def finished_layers(facts: ModelFacts, windows: Tensor, folder: Path, fisher_windows: int) -> int:
    """How many layers `collect` with the same arguments finds finished."""
    hidden = StateFiles(folder, "hidden", (*windows.shape, facts.hidden_size))
    kept = StateFiles(folder, "hidden", (fisher_windows, *hidden.shape[1:]))
    return _start(folder, facts.layers, hidden, kept)


@torch.no_grad()
def _embed(skeleton: Skeleton, windows: Tensor, hidden: StateFiles, batch_tokens: int) -> None:
    embedding = skeleton.embedding()
    with hidden.writing(0) as append:
        for batch in in_batches(*hidden.shape[:2], batch_tokens):
            append(embedding(windows[batch]))


class _Forward:
    """Runs one layer over all windows, from its input file to the next layer's."""

    def __init__(
        self,
        skeleton: Skeleton,
        facts: ModelFacts,
        family: Architecture,
        looked_at: set[int],
        linears: bool,
        weights: Tensor | None,
    ) -> None:
        self._skeleton = skeleton
        self._facts = facts
        self._family = family
        self._looked_at = looked_at
        self._linears = linears
        self._weights = weights

    @torch.no_grad()
    def run(
        self, index: int, hidden: StateFiles, batch_tokens: int
    ) -> tuple[LayerStatistics, dict[str, Tensor]]:
        """The layer's statistics, and what an InputObserver found when there is one."""
        windows, context, _ = hidden.shape
        layer = self._skeleton.layer(index)
        observer = Observer(
            self._facts,
            tap_of(self._skeleton.attention(index), self._family, self._facts),
            self._skeleton.rotation(index, context),
            self._skeleton.rule(index),
            self._looked_at,
        )
        inputs = InputObserver(layer, self._family) if self._linears else None
        with hidden.writing(index + 1) as append:
            for batch in in_batches(windows, context, batch_tokens):
                states = hidden.read(index, batch).to(self._skeleton.device)
                weights = None if self._weights is None else self._weights[batch]
                if inputs:
                    inputs.weigh(weights)
                output = self._skeleton.run(index, layer, states)
                observer.look(weights)
                if not torch.isfinite(output).all():
                    raise ModelError(
                        f"layer {index} gives infinite or undefined values on the calibration text",
                        hint="the checkpoint is damaged or not a float checkpoint",
                    )
                append(output)
        found = inputs.finish() if inputs else {}
        self._skeleton.empty(index)
        return observer.finish(), found


def _tensors(statistics: LayerStatistics) -> dict[str, Tensor]:
    """The forward statistics as a file holds them."""
    return {
        "contribution": statistics.contribution,
        "input_covariance": statistics.input_covariance,
        "input_mean": statistics.input_mean,
        "input_l1": statistics.input_l1,
        "attention_mass": statistics.attention_mass,
        "tokens": torch.tensor(statistics.tokens),
    }
