# SPDX-License-Identifier: Apache-2.0
"""Measure models: perplexity, divergence from the original, bytes of KV cache."""

from core.evaluate.divergence import Comparison, compare
from core.evaluate.kv_memory import formula_kv_bytes, measure_kv_bytes
from core.evaluate.load import is_converted, load_model
from core.evaluate.perplexity import cut_windows, perplexity
from core.evaluate.report import evaluate

__all__ = [
    "Comparison",
    "compare",
    "cut_windows",
    "evaluate",
    "formula_kv_bytes",
    "is_converted",
    "load_model",
    "measure_kv_bytes",
    "perplexity",
]
