# SPDX-License-Identifier: Apache-2.0
"""Which folder a model's name leads to, and what it takes in memory. No weight is read, no torch needed."""

import math
from pathlib import Path

from core.errors import ModelError
from core.settings import Settings
from core.weights.index import read_index
from core.weights.locate import Located, locate

JOB = "job:"
# the stored dtypes a model is loaded in as it is; anything else becomes float32
_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
# Python, torch and transformers without a model: 360 to 700 MB measured, and what the kernels keep after the
# first answer: 250 MB beside weights of 269 MB
PROCESS_BYTES = 900_000_000


def folder_of(model: str, settings: Settings) -> Path:
    """The folder of `model`: the result of a finished job ("job:ID"), or whatever `locate` finds.

    Raises ModelError when there is none, and for a Hub model whose weights are not on this machine: a
    question must not start a download of gigabytes.
    """
    if not model.startswith(JOB):
        return _present(locate(model, weights=False, settings=settings))
    job_id = model.removeprefix(JOB)
    folder = settings.jobs_dir / job_id / "result"
    if not job_id.isalnum() or not (folder / "config.json").is_file():
        raise ModelError(
            f"job {job_id[:32]} has no result to talk to",
            hint="wait until the job is done, or convert again if its files were removed",
            field="models",
        )
    return folder


def _present(located: Located) -> Path:
    if located.kind == "hub" and not next(located.folder.glob("*.safetensors"), None):
        raise ModelError(
            f"the weights of {located.name} are not on this machine",
            hint="convert it once, which fetches them, or give a local folder",
            field="models",
        )
    return located.folder


def weight_bytes(folder: Path) -> int:
    """What the weights take once loaded, from the safetensors headers."""
    tensors = read_index(folder).values()
    return sum(math.prod(one.shape) * _BYTES.get(one.dtype, 4) for one in tensors)
