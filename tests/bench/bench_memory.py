# SPDX-License-Identifier: Apache-2.0
"""Peak memory of a conversion against the number of layers: it must follow the layer, not the model.

Random Llamas (hidden 1024, 50 MB per layer in float32) with 4 and 16 layers are converted in fresh processes;
printed are the peak of the converting process and the size of the model.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from bench_models import make_wide_llama

SHAPES = (4, 16)


def convert(model: Path, out: Path, text: Path) -> dict[str, float]:
    program = Path(sys.executable).with_name("mla-workbench")
    arguments = ["--calibration", text, "--tokens", "1024", "--context", "128", "--evaluation", "none"]
    done = subprocess.run(
        [program, "convert", model, "--out", out, "--keep", "0.3125", *arguments, "--json"],
        stdout=subprocess.PIPE,
        check=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "2"},
    )
    found: dict[str, float] = json.loads(done.stdout)["metrics"]
    return found


def test_memory_follows_the_layer(tmp_path: Path, sample_text: Path) -> None:
    peaks = {}
    for layers in SHAPES:
        model = make_wide_llama(tmp_path / f"model-{layers}", layers)
        metrics = convert(model, tmp_path / f"out-{layers}", sample_text)
        peaks[layers] = metrics["peak_memory_bytes"]
        size = (model / "model.safetensors").stat().st_size
        print(f"\n{layers:3} layers, model {size / 1e6:6.0f} MB: peak {peaks[layers] / 1e6:6.0f} MB", end="")
    print(f"\npeak of {SHAPES[1]} layers / peak of {SHAPES[0]}: {peaks[SHAPES[1]] / peaks[SHAPES[0]]:.2f}")
