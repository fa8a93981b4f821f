# SPDX-License-Identifier: Apache-2.0
"""Mixtures of experts: checkpoints store one matrix per expert, transformers computes with stacks of them.

Exports keep the checkpoint's tensors, byte for byte; transformers stacks them when it loads a model. Here the
same is done for the one layer that is in memory.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from core.arch.architecture import Experts
from core.weights.index import TensorInfo


def stacked(tensors: Mapping[str, Tensor], experts: Experts | None) -> dict[str, Tensor]:
    """The tensors with those of single experts stacked: (experts, rows, inputs), gates above ups."""
    found = dict(tensors)
    for target, rows in _rows(tensors, experts).items():
        found[target] = torch.stack([torch.cat([found.pop(name) for name in row]) for row in rows])
    return found


def stacked_infos(infos: Mapping[str, TensorInfo], experts: Experts | None) -> dict[str, TensorInfo]:
    """The same for what headers say of them."""
    found = dict(infos)
    for target, rows in _rows(infos, experts).items():
        parts = [[found.pop(name) for name in row] for row in rows]
        shape = (len(rows), sum(part.shape[0] for part in parts[0]), *parts[0][0].shape[1:])
        found[target] = replace(parts[0][0], name=target, shape=shape)
    return found


def _rows(names: Iterable[str], experts: Experts | None) -> dict[str, list[list[str]]]:
    """What each stack is made of: for every expert the names below each other."""
    if experts is None:
        return {}
    numbered: dict[str, dict[int, dict[int, str]]] = {}
    for target, parts in (
        (experts.gate_up_stack, (experts.gate, experts.up)),
        (experts.down_stack, (experts.down,)),
    ):
        for place, part in enumerate(parts):
            pattern = re.compile(r"(.*)" + re.escape(part).replace(re.escape("{e}"), r"(\d+)"))
            for name in names:
                if match := pattern.fullmatch(name):
                    by_expert = numbered.setdefault(match[1] + target, {})
                    by_expert.setdefault(int(match[2]), {})[place] = name
    return {
        target: [[row[place] for place in sorted(row)] for _, row in sorted(by_expert.items())]
        for target, by_expert in numbered.items()
    }
