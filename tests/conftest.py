# SPDX-License-Identifier: Apache-2.0
"""Fixtures everybody uses: a tiny random checkpoint for unit tests, the real demo model for claims."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import settings

from core.settings import Settings

# how long one example takes says nothing of the code when other processes use the same cores
settings.register_profile("busy machine", deadline=None)
settings.load_profile("busy machine")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# two test processes, and the jobs they start, share the cores: threads of torch that wait for each other spin
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MLA_THREADS", "1")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests may talk to this machine only."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not str(address[0]).startswith(
            ("127.", "::1", "localhost")
        ):
            raise OSError(f"a test tried to reach {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


def make_tiny_llama(folder: Path, *, seed: int = 0, **overrides: Any) -> Path:
    """Save a random Llama (4 layers, hidden 64, 4 heads over 2 KV heads, float32) with a byte tokenizer."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {"<s>": 0, "</s>": 1} | {char: index + 2 for index, char in enumerate(alphabet)}
    inner = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    shape = {
        "vocab_size": len(vocab),
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
        "initializer_range": 0.2,
        "dtype": "float32",
    }
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(**(shape | overrides)))
    with torch.no_grad():  # biases start at zero, where a mistake with them would not show
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.2)
    model.to(model.config.dtype)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def warm_verification(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Conversions are verified in a process that need not import everything anew (tests/warm_verify.py)."""
    from tests.warm_verify import forked_verification

    with forked_verification(monkeypatch):
        yield


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """make_tiny_llama with the folder chosen: tiny_llama(num_key_value_heads=4) -> Path."""

    def make(**overrides: Any) -> Path:
        return make_tiny_llama(tmp_path_factory.mktemp("tiny"), **overrides)

    return make


@pytest.fixture(scope="session")
def tiny_checkpoint(tiny_llama: Callable[..., Path]) -> Path:
    """The default tiny checkpoint."""
    return tiny_llama()


@pytest.fixture(scope="session")
def demo_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings whose demo model is prepared; the preparation is shared by all runs of the test suite."""
    from core.weights.demo import prepare_demo

    home = Settings(data_dir=Path(__file__).parent.parent / "build" / "test-home")
    home.models_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(home.models_dir / "demo.lock"):  # the suite runs in more than one process
        prepare_demo(home)
    data = tmp_path_factory.mktemp("home")
    (data / "models").symlink_to(home.models_dir)
    return Settings(data_dir=data)


@pytest.fixture(scope="session")
def sample_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A UTF-8 file of real prose (the manual of Python), long enough for tiny calibrations."""
    import pydoc_data.topics

    path = tmp_path_factory.mktemp("text") / "sample.txt"
    path.write_text("\n".join(pydoc_data.topics.topics.values())[:60_000], encoding="utf-8")
    return path
