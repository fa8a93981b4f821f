# SPDX-License-Identifier: Apache-2.0
"""Llama 2, Llama 3 (with its rope scaling), SmolLM, SmolLM2, TinyLlama."""

from core.arch.architecture import Architecture

LLAMA = Architecture(family="Llama", model_types=("llama",))
