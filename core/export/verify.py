# SPDX-License-Identifier: Apache-2.0
"""Does the exported folder load and give the same logits? Asked in a fresh, offline process.

Run as `python -m core.export.verify FOLDER EXPECTED`: prints one JSON object. The model class is taken from
the exported folder's own modeling_mla.py, so the file that users get is the file that is tested.
"""

import importlib.util
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from core.errors import VerificationError
from core.events import Cancel
from core.parent import die_with_parent
from core.spec import Frozen

# largest difference that reordering the same sums can cause, as a fraction of the largest logit: both runs
# are on the CPU in the stored dtype. Half precision: eight roundings (2^-11 and 2^-8 of the value each).
# float32: about 1000, since a rounding is small beside what sums over thousands of channels gather; float64
# as float32, as the model computes its rotations in float32
TOLERANCE = {"float64": 1e-4, "float32": 1e-4, "float16": 2**-8, "bfloat16": 2**-5}
# the sample that is shown with the result: so many tokens continue as many of the calibration text
_PROMPT, _NEW_TOKENS = 8, 16


class WrongLogits(VerificationError):
    """The files do not hold what was converted: they, or the states of the probe, have to be made again."""


class Verified(Frozen):
    """What the fresh process found; a model that gives NaN is found out too, so NaN is a value here."""

    model_config = ConfigDict(allow_inf_nan=True)

    logits_difference: float
    logits_size: float
    kv_bytes_per_token: int
    prompt: str
    generated: str


def verify(folder: Path, expected: Path, dtype: str, kv_bytes: int, cancel: Cancel) -> Verified:
    """Check `folder` against in-memory logits (WrongLogits) and formula (VerificationError)."""
    found = _ask(folder, expected, cancel)
    allowed = TOLERANCE[dtype] * max(1.0, found.logits_size)
    if not (math.isfinite(found.logits_size) and found.logits_difference <= allowed):
        raise WrongLogits(
            f"reloaded logits differ by {found.logits_difference:.3g}, allowed is {allowed:.3g}",
            hint="the written files do not hold the converted model; resume to write them again",
        )
    if found.kv_bytes_per_token != kv_bytes:
        raise VerificationError(
            f"the cache takes {found.kv_bytes_per_token} bytes per token, the formula says {kv_bytes}",
            hint="please report this with the job's specification",
        )
    return found


def _ask(folder: Path, expected: Path, cancel: Cancel) -> Verified:
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    # not beside the export: on a full disk the answer could not be written
    with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "core.export.verify", str(folder), str(expected)],
            stdout=answer,
            stderr=errors,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **offline, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        code = _wait(process, cancel)
        answer.seek(0)
        errors.seek(0)
        said, complaint = answer.read().decode(), errors.read().decode(errors="replace")
    if code != 0:
        last = complaint.strip().splitlines()[-1:] or ["no message"]
        raise VerificationError(
            f"the exported model does not load (exit code {code}): {last[0]}",
            hint="killed means out of memory: the whole model must fit for this check" if code < 0 else "",
        )
    return Verified.model_validate(json.loads(said))


def _wait(process: subprocess.Popen[bytes], cancel: Cancel) -> int:
    """The exit code; the process does not outlive a cancelled job."""
    try:
        while True:
            try:
                return process.wait(timeout=0.2)
            except subprocess.TimeoutExpired:
                cancel.check()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _load(folder: Path) -> Any:
    """The exported model by the exported code, in its stored dtype."""
    spec = importlib.util.spec_from_file_location("modeling_mla", folder / "modeling_mla.py")
    if spec is None or spec.loader is None:
        raise ImportError("modeling_mla.py is missing")
    module = importlib.util.module_from_spec(spec)
    sys.modules["modeling_mla"] = module
    spec.loader.exec_module(module)
    config = module.MLAConfig.from_pretrained(folder, local_files_only=True)
    return getattr(module, config.architectures[0]).from_pretrained(
        folder, config=config, dtype="auto", local_files_only=True
    )


def main(folder: Path, expected: Path) -> int:
    """The fresh process."""
    die_with_parent()
    import torch
    from safetensors.torch import load_file

    from core.evaluate.kv_memory import measure_kv_bytes
    from core.weights.tokenizer import load_tokenizer

    wanted = load_file(expected)
    model = _load(folder).eval()
    with torch.no_grad():
        given = {"inputs_embeds": wanted["embeds"]} if "embeds" in wanted else {"input_ids": wanted["tokens"]}
        logits = model(**given).logits.float()
        output = model.generate(
            wanted["tokens"][:, :_PROMPT],
            attention_mask=torch.ones_like(wanted["tokens"][:, :_PROMPT]),
            max_new_tokens=_NEW_TOKENS,
            do_sample=False,
        )
    tokenizer = load_tokenizer(folder)
    answer = Verified(
        logits_difference=float((logits - wanted["logits"]).abs().max()),
        logits_size=float(wanted["logits"].abs().max()),
        kv_bytes_per_token=measure_kv_bytes(model),
        prompt=tokenizer.decode(output[0, :_PROMPT]),
        generated=tokenizer.decode(output[0, _PROMPT:]),
    )
    # not model_dump_json, which makes null of NaN
    print(json.dumps(answer.model_dump()))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
