# SPDX-License-Identifier: Apache-2.0
"""Models of a chosen size for the benchmarks."""

from pathlib import Path

from conftest import make_tiny_llama


def make_wide_llama(folder: Path, layers: int) -> Path:
    """A random Llama whose layers weigh 50 MB in float32."""
    return make_tiny_llama(
        folder,
        hidden_size=1024,
        intermediate_size=2816,
        num_hidden_layers=layers,
        num_attention_heads=16,
        num_key_value_heads=8,
        initializer_range=0.02,
    )
