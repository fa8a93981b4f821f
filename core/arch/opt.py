# SPDX-License-Identifier: Apache-2.0
"""OPT, 125M to 66B; not OPT-350M, which norms after its blocks and projects its embeddings.

Positions are learned (position p is row p + 2), so nothing rotates; MLPs are plain with ReLU.
"""

from core.arch.architecture import Architecture, Refused

_SIZES = "OPT-350M and models like it are built otherwise; every other size of OPT can be converted"

OPT = Architecture(
    family="OPT",
    model_types=("opt",),
    layer="model.decoder.layers.{i}",
    attention="model.decoder.layers.{i}.self_attn",
    output="out_proj",
    embedding="model.decoder.embed_tokens",
    positions="model.decoder.embed_positions",
    position_offset=2,
    final_norm="model.decoder.final_layer_norm",
    rotary="",
    mlp=("", "fc1", "fc2"),
    refused=(
        Refused("do_layer_norm_before", True, _SIZES),
        Refused("word_embed_proj_dim", None, _SIZES, same_as="hidden_size"),
        Refused("_remove_final_layer_norm", False, "save the model with its final norm"),
        Refused("layer_norm_elementwise_affine", True, "only norms with weights can be converted"),
    ),
    # the files of the first release were those of the model without its head
    old_names=(("decoder.", "model.decoder."),),
)
