# SPDX-License-Identifier: Apache-2.0
"""Mixtral 8x7B and 8x22B: attention is converted, experts stay as they are."""

from core.arch.architecture import Architecture, Experts

MIXTRAL = Architecture(
    family="Mixtral",
    model_types=("mixtral",),
    mlp=None,
    experts=Experts("mlp.experts.{e}.w1.weight", "mlp.experts.{e}.w3.weight", "mlp.experts.{e}.w2.weight"),
    config_defaults=(("num_key_value_heads", 8),),
    old_parts=((".block_sparse_moe.", ".mlp."),),
    # every layer looks back sliding_window tokens, where the config says so
    refused=(),
)
