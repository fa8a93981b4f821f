# SPDX-License-Identifier: Apache-2.0
"""Packed windows of tokens in an order that seed and number decide, so that resuming needs no state."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from core.errors import TextError
from core.heal.documents import documents, is_records
from core.heal.mix import Source, read_mix, turns
from core.heal.spec import Healing
from core.weights.tokenizer import load_tokenizer


@dataclass(frozen=True)
class Windows:
    """train: (steps * windows per step, context) in the order they are trained on; held_out: (n, context)."""

    train: Tensor
    held_out: Tensor

    @property
    def all(self) -> Tensor:
        """Every window, those held back first."""
        return torch.cat((self.held_out, self.train))

    def step(self, number: int, size: int) -> Tensor:
        """The windows of step `number`, (size, context)."""
        return self.train[number * size : (number + 1) * size]


def make_windows(healing: Healing, folder: Path, steps: int, size: int) -> Windows:
    """Tokenise the mix with the tokenizer in `folder` for `steps` of `size` windows each.

    Raises TextError when it is too short. Held-back windows are taken out of every source by its share, and
    never trained on.
    """
    mix = read_mix(healing.text)
    count = steps * size
    shares = [source.share for source in mix]
    held, wanted = (_counts(shares, number) for number in (healing.held_out, count))
    pools = [_pool(source, healing, folder, held[index] + wanted[index]) for index, source in enumerate(mix)]
    for source, pool, kept, asked in zip(mix, pools, held, wanted, strict=True):
        _check_length(source, len(pool) - kept, asked, healing)
    orders = [
        _order(len(pool), kept, asked, (healing.seed, index))
        for index, (pool, kept, asked) in enumerate(zip(pools, held, wanted, strict=True))
    ]
    chosen = [pool[order] for pool, order in zip(pools, orders, strict=True)]
    held_out = torch.cat([one[:kept] for one, kept in zip(chosen, held, strict=True)])
    queues = [iter(one[kept:]) for one, kept in zip(chosen, held, strict=True)]
    train = torch.stack([next(queues[turn]) for turn in islice(turns(shares), count)])
    return Windows(train, held_out)


def _counts(shares: Sequence[float], windows: int) -> list[int]:
    """How many of the first `windows` windows are each source's."""
    order = list(islice(turns(shares), windows))
    return [order.count(index) for index in range(len(shares))]


def _pool(source: Source, healing: Healing, folder: Path, needed: int) -> Tensor:
    """All windows (n, context) of a source; of records no more than `needed`, since they may have no end."""
    tokenizer, context = load_tokenizer(folder), healing.context
    most = needed * context
    between = [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
    ids: list[int] = []
    for document in documents(source, healing.text_field):
        ids += tokenizer(document, add_special_tokens=False, verbose=False)["input_ids"]
        if is_records(source.name):
            ids += between
            if len(ids) >= most:
                break
    whole = len(ids) // context
    return torch.tensor(ids[: whole * context], dtype=torch.int32).view(whole, context)


def _check_length(source: Source, there: int, asked: int, healing: Healing) -> None:
    if there >= asked or (healing.repeat and there > 0):
        return
    context = healing.context
    raise TextError(
        f"'{Path(source.name).name}' has {max(there, 0) * context:,} tokens to train on (beside what is held "
        f"back), {asked * context:,} are asked of it",
        hint="ask for fewer tokens, give a longer text, or allow it to be read more than once (repeat)",
        field="heal.tokens",
    )


def _order(windows: int, held: int, wanted: int, seed: tuple[int, int]) -> Tensor:
    """Which windows of a pool are held back, then those trained on: every epoch is shuffled anew."""
    first = _shuffled(windows, (*seed, 0))
    rest, found = first[held:], [first]
    while sum(map(len, found)) < held + wanted:
        found.append(rest[_shuffled(len(rest), (*seed, len(found)))])
    return torch.cat(found)[: held + wanted]


def _shuffled(count: int, seed: tuple[int, int, int]) -> Tensor:
    # seeds next to each other must not give the same order for another source or epoch
    digest = hashlib.sha256(repr(seed).encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))
    return torch.randperm(count, generator=generator)
