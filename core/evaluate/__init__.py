# SPDX-License-Identifier: Apache-2.0
"""Measure models: perplexity, divergence from the original, bytes of KV cache."""

from core.evaluate.by_position import PositionBucket, PositionTally
from core.evaluate.divergence import Comparison, compare, compare_predictors
from core.evaluate.kv_memory import formula_kv_bytes, measure_kv_bytes
from core.evaluate.load import is_converted, load_model
from core.evaluate.perplexity import cut_windows, perplexity
from core.evaluate.predictor import Predictor, WholeModel
from core.evaluate.report import evaluate

__all__ = [
    "Comparison",
    "PositionBucket",
    "PositionTally",
    "Predictor",
    "WholeModel",
    "compare",
    "compare_predictors",
    "cut_windows",
    "evaluate",
    "formula_kv_bytes",
    "is_converted",
    "load_model",
    "measure_kv_bytes",
    "perplexity",
]
