# SPDX-License-Identifier: Apache-2.0
"""Mistral 7B and its instruction-tuned versions, Mistral Nemo, Mistral Small (text), Zephyr."""

from core.arch.architecture import Architecture

MISTRAL = Architecture(
    family="Mistral",
    model_types=("mistral",),
    # every layer looks back sliding_window tokens, where the config says so
    config_defaults=(("num_key_value_heads", 8), ("sliding_window", 4096)),
    refused=(),
)
