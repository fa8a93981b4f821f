# SPDX-License-Identifier: Apache-2.0
"""The backward pass, one layer in memory: Fisher information at the keys, values and queries.

To second order, KL(original || changed) = 1/2 d^T F d for a change d of the keys and values, where F is the
Fisher information: the second moment of the gradients of -log p(y), with the labels y drawn from the model
itself (Amari 1998; with the text's own words it would be the empirical Fisher, which is another matrix, see
Kunstner et al. 2019, arXiv 1905.12558). Scores of different positions are uncorrelated under the model, so
one sampled label per position and one backward pass per window give an unbiased estimate. Positions before a
token of an image predict nothing: no label is asked of them.

The forward pass leaves `hidden-i` of the first windows. From the last layer to the first, each step reads
`hidden-i` and `gradient-(i+1)`, writes `gradient-i` and the layer's moments, and then gives up what it read.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from core.arch import Architecture
from core.calibrate.derotation import DerotationMoments
from core.calibrate.gradient_moments import GradientMoments
from core.calibrate.layer_statistics import fisher_file, save_tensors
from core.calibrate.picture_ids import predicts_text
from core.calibrate.states import BATCH_TOKENS, StateFiles, in_batches
from core.calibrate.tap import Tap, tap_of
from core.errors import ModelError
from core.facts import ModelFacts
from core.linear.moments import GradientObserver, save_gradients
from core.weights.head import Head
from core.weights.skeleton import Skeleton

# rows of logits held at once, in float32: 134 MB at a vocabulary of 131,072
HEAD_ROWS = 256


def collect_fisher(
    skeleton: Skeleton,
    facts: ModelFacts,
    family: Architecture,
    windows: Tensor,
    folder: Path,
    *,
    seed: int = 0,
    fisher_windows: int,
    derotation: bool = False,
    linears: bool = False,
    batch_tokens: int = BATCH_TOKENS,
) -> Iterator[int]:
    """Yield `layers` once the head is done, then each layer's index from the last to 0; resumable.

    Call it after `collect` with the same arguments has ended. The statistics gain their Fisher fields, and
    with `derotation` the constants of core/rope/derotate.py: a sixth of the time, for those who read them;
    with `linears` gradients at every linear layer are measured.
    """
    layers = facts.layers
    hidden = StateFiles(folder, "hidden", (fisher_windows, windows.shape[1], facts.hidden_size))
    gradients = StateFiles(folder, "gradient", hidden.shape)
    start = backward_step(folder, layers, hidden)
    if start is None:
        raise ModelError("the layer inputs of the backward pass are missing", hint="run the conversion again")
    yield from range(layers, start, -1)
    for index in range(start, -1, -1):
        if index == layers:
            _head_gradient(skeleton, hidden, gradients, layers, windows, seed)
        else:
            backward = _Backward(skeleton, facts, family, batch_tokens, derotation, linears)
            moments, squares = backward.run(index, hidden, gradients)
            if linears:
                save_gradients(folder, index, squares)
            save_tensors(fisher_file(folder, index), moments)
            gradients.keep_first(index + 1, 0)
        hidden.keep_first(index, 0)
        yield index
    hidden.remove_all()
    gradients.remove_all()


def backward_step(folder: Path, layers: int, hidden: StateFiles) -> int | None:
    """What comes next: a layer, `layers` for the head, -1 when all is done, None when inputs are gone."""
    last = next((i for i in reversed(range(layers)) if not fisher_file(folder, i).is_file()), -1)
    gradients = StateFiles(folder, "gradient", hidden.shape)
    if last < 0:
        return -1
    if gradients.has(last + 1) and all(hidden.has(i) for i in range(last + 1)):
        return last
    return layers if all(hidden.has(i) for i in range(layers + 1)) else None


def finished_backwards(facts: ModelFacts, windows: Tensor, folder: Path, fisher_windows: int) -> int:
    """How many of its layers + 1 steps `collect_fisher` with the same arguments finds finished."""
    hidden = StateFiles(folder, "hidden", (fisher_windows, windows.shape[1], facts.hidden_size))
    step = backward_step(folder, facts.layers, hidden)
    return 0 if step is None else facts.layers - step


@torch.no_grad()
def _head_gradient(
    skeleton: Skeleton, hidden: StateFiles, gradients: StateFiles, layers: int, tokens: Tensor, seed: int
) -> None:
    """Write the gradient of the summed -log p(y) with respect to the last layer's output.

    tokens: ids, of which the first windows are those of `hidden`.
    """
    norm, head = skeleton.final_norm(), skeleton.head()
    # drawn on the CPU: the labels do not depend on the device
    generator = torch.Generator().manual_seed(seed)
    windows, context, width = hidden.shape
    with gradients.writing(layers) as append:
        for batch in in_batches(windows, context, HEAD_ROWS):
            states = hidden.read(layers, batch).to(skeleton.device).flatten(0, 1)
            rows = [_row_gradient(norm, head, part, generator) for part in states.split(HEAD_ROWS)]
            found = torch.cat(rows).view(-1, context, width)
            found[~predicts_text(tokens[batch])] = 0
            append(found)


def _row_gradient(norm: nn.Module, head: Head, states: Tensor, generator: torch.Generator) -> Tensor:
    """Gradient for some rows (rows, d): that of the logits is p - onehot(y)."""
    with torch.enable_grad():
        states = states.requires_grad_()
        normed = norm(states)
    logits = head.logits(normed.detach())
    probabilities = logits.softmax(dim=-1)
    labels = sample(probabilities, generator)
    probabilities[torch.arange(len(labels), device=labels.device), labels] -= 1
    (gradient,) = torch.autograd.grad(normed, states, head.backward(probabilities, logits))
    return gradient


def sample(probabilities: Tensor, generator: torch.Generator) -> Tensor:
    """One label per row of (rows, vocabulary), by inverting the cumulative distribution."""
    cumulative = probabilities.cumsum(dim=-1)
    drawn = torch.rand(len(probabilities), 1, generator=generator).to(probabilities.device)
    # rounding may leave the last sum below or above one
    labels = torch.searchsorted(cumulative, drawn * cumulative[:, -1:], right=True)
    return labels.clamp_max(probabilities.shape[1] - 1).squeeze(1)


class _Backward:
    """Runs one layer again with gradients, from its output's gradient to its input's."""

    def __init__(
        self,
        skeleton: Skeleton,
        facts: ModelFacts,
        family: Architecture,
        batch_tokens: int,
        derotation: bool,
        linears: bool,
    ) -> None:
        self._skeleton = skeleton
        self._facts = facts
        self._family = family
        self._batch_tokens = batch_tokens
        self._derotation = derotation
        self._linears = linears

    def run(
        self, index: int, hidden: StateFiles, gradients: StateFiles
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The Fisher fields of layer `index`, and what a GradientObserver found when there is one.

        Writes the gradient of the layer's input, unless it is the first.
        """
        facts, (windows, context, _) = self._facts, hidden.shape
        layer = self._skeleton.layer(index).requires_grad_(False)
        tap = tap_of(self._skeleton.attention(index), self._family, facts)
        observer = GradientObserver(layer, self._family) if self._linears else None
        moments = GradientMoments(facts.latent_inputs, facts.kv_heads, facts.head_dim)
        fit = DerotationMoments(facts.heads, facts.kv_heads, facts.head_dim, self._skeleton.rule(index))
        rotation = self._skeleton.rotation(index, context)
        target: AbstractContextManager[Callable[[Tensor], None]] = (
            gradients.writing(index) if index else nullcontext(lambda states: None)
        )
        with target as append:
            for batch in in_batches(windows, context, self._batch_tokens):
                states = hidden.read(index, batch)
                seen = self._step(index, layer, tap, states, gradients.read(index + 1, batch))
                append(seen.into)
                moments.add(seen.inputs.flatten(0, -2), seen.key.flatten(0, -2), seen.value.flatten(0, -2))
                windows_of_batch = zip(*seen.projected, seen.mixed, strict=True) if self._derotation else ()
                for *projected, mixed in windows_of_batch:
                    fit.add(tuple(projected), mixed, rotation)
        tap.remove()
        squares = observer.finish() if observer else {}
        self._skeleton.empty(index)
        return moments.finish() | ({"derotation": fit.constants()} if self._derotation else {}), squares

    def _step(self, index: int, layer: nn.Module, tap: Tap, states: Tensor, gradient: Tensor) -> "_Step":
        device = self._skeleton.device
        with torch.enable_grad():
            states = states.to(device).requires_grad_()
            output = self._skeleton.run(index, layer, states)
        inputs, outputs, mixed = tap.take()
        into, *at, heads = torch.autograd.grad(output, [states, *outputs, mixed], gradient.to(device))
        _, key, value = tap.split(at)
        return _Step(inputs, tap.split([part.detach() for part in outputs]), into, key, value, heads)


@dataclass(frozen=True)
class _Step:
    """One batch of one layer: x, (q, k, v), and the gradients at the layer's input, k, v and the heads."""

    inputs: Tensor
    projected: tuple[Tensor, Tensor, Tensor]
    into: Tensor
    key: Tensor
    value: Tensor
    mixed: Tensor
