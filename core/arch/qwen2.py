# SPDX-License-Identifier: Apache-2.0
"""Qwen2, Qwen2.5, Qwen2.5-Coder and Qwen2.5-Math: Llama with biases on queries, keys and values."""

from core.arch.architecture import Architecture

QWEN2 = Architecture(family="Qwen2", model_types=("qwen2",), refused=())
