# SPDX-License-Identifier: Apache-2.0
"""Where layers can be run."""

import torch

from core.errors import SpecError


def choose_device(wanted: str) -> torch.device:
    """The device for "auto", "cpu" or "cuda"; raises SpecError when there is no such device."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise SpecError("this machine has no CUDA device", hint="choose cpu or auto", field="device")
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(wanted)


def describe_devices() -> str:
    """One line: the GPUs with their memory, or the CPU threads."""
    gpus = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    if gpus:
        return ", ".join(f"{gpu.name} {gpu.total_memory / 1e9:.0f} GB" for gpu in gpus)
    return f"CPU only, {torch.get_num_threads()} threads"
