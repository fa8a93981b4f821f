# SPDX-License-Identifier: Apache-2.0
"""Time and peak memory of joint QK and joint VO against matrix size.

Random projections with heads of 64 channels, inputs with a spectrum, RoPE over a window of 512 offsets, half
of the ranks. Each size runs in a fresh process; memory is what its peak is above that of its own inputs and
libraries. A sweep is two eigenproblems; models need 3 to 8.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from core.factor.joint_qk import Scores, joint_qk
from core.factor.joint_vo import Outputs, joint_vo
from core.factor.tucker import Effort

# (width, query heads, KV heads)
SIZES = ((256, 8, 8), (512, 8, 8), (576, 9, 3), (1024, 16, 16), (2048, 32, 8), (2048, 32, 32))
HEAD_DIM, WINDOW = 64, 512


def test_joint_factors_against_size() -> None:
    print(
        f"\njoint QK and VO, {torch.get_num_threads()} threads, processor seconds; peak above the inputs, MB"
    )
    print("width  heads  ranks      keys alone  QK start  QK sweep  VO start  VO sweep   peak")
    for width, heads, kv_heads in SIZES:
        arguments = [sys.executable, __file__, str(width), str(heads), str(kv_heads)]
        done = subprocess.run(arguments, stdout=subprocess.PIPE, text=True, check=True)
        print(json.loads(done.stdout))


def measured(width: int, heads: int, kv_heads: int) -> str:
    """A line of the table."""
    scores, outputs = inputs(width, heads, kv_heads)
    q_rank, k_rank = width // 2, min(width, kv_heads * HEAD_DIM) // 2
    before = peak()
    alone = seconds(lambda: joint_qk(scores, None, k_rank))
    times = []
    for run in (
        partial(joint_qk, scores, q_rank, k_rank),
        partial(joint_vo, outputs, k_rank, q_rank),
    ):
        start = seconds(partial(run, Effort(sweeps=0)))
        times += [start, seconds(partial(run, Effort(sweeps=1))) - start]
    columns = "".join(f"{one:10.2f}" for one in times)
    name = f"{width:5}  {heads:2}/{kv_heads:<2}  {q_rank:4}+{k_rank:<4}"
    return f"{name}  {alone:10.2f}{columns}  {(peak() - before) / 1e6:5.0f}"


def inputs(width: int, heads: int, kv_heads: int) -> tuple[Scores, Outputs]:
    draw = torch.Generator().manual_seed(0)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=draw, dtype=torch.float64)

    x = normal(2 * width, width) * torch.logspace(0.5, -1.5, width, dtype=torch.float64)
    covariance = x.T @ x / len(x)
    inv_freq = 10_000.0 ** -(torch.arange(0, HEAD_DIM, 2, dtype=torch.float64) / HEAD_DIM)
    mass = normal(heads, WINDOW).softmax(dim=1)
    key, value = normal(kv_heads, HEAD_DIM, width), normal(kv_heads, HEAD_DIM, width)
    scores = Scores(normal(heads, HEAD_DIM, width), key, covariance, mass, inv_freq)
    return scores, Outputs(value, normal(width, heads, HEAD_DIM), covariance)


def seconds(run: Callable[[], object]) -> float:
    """What it takes of the processor: the same however busy the machine is."""
    started = time.process_time()
    run()
    return time.process_time() - started


def peak() -> int:
    """Peak resident bytes of this process."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    print(json.dumps(measured(*map(int, sys.argv[1:]))))
