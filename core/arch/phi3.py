# SPDX-License-Identifier: Apache-2.0
"""Phi-3 and Phi-3.5 with a context of 4,096, Phi-4; Phi-4-mini rotates three quarters of a head's dims.

Queries, keys and values come out of one projection. The long-context variants (longrope) change their
frequencies with the length of the text, which one inv_freq per layer cannot say: they are refused.
"""

from core.arch.architecture import Architecture, Fused

PHI3 = Architecture(
    family="Phi-3",
    model_types=("phi3",),
    fused=Fused("qkv_proj"),
    is_partly_rotary=True,
    rope_types=("default",),
    mlp=None,
    refused=(),
)
