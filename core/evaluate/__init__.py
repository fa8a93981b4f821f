# SPDX-License-Identifier: Apache-2.0
"""Measure models: perplexity, divergence from the original, bytes of KV cache, each with its interval."""

from core.evaluate.by_position import PositionBucket, PositionTally
from core.evaluate.divergence import Comparison, compare, compare_predictors
from core.evaluate.intervals import Interval, fraction_interval, mean_interval
from core.evaluate.kv_memory import formula_kv_bytes, measure_kv_bytes
from core.evaluate.load import is_converted, load_model
from core.evaluate.paired import paired_fractions, paired_p_value
from core.evaluate.perplexity import cut_windows, perplexity
from core.evaluate.predictor import Predictor, WholeModel
from core.evaluate.reach import check_context
from core.evaluate.report import compared, evaluate, evaluate_texts
from core.evaluate.window_tally import PairedFigures, WindowTally

__all__ = [
    "Comparison",
    "Interval",
    "PairedFigures",
    "PositionBucket",
    "PositionTally",
    "Predictor",
    "WholeModel",
    "WindowTally",
    "check_context",
    "compare",
    "compare_predictors",
    "compared",
    "cut_windows",
    "evaluate",
    "evaluate_texts",
    "formula_kv_bytes",
    "fraction_interval",
    "is_converted",
    "load_model",
    "mean_interval",
    "measure_kv_bytes",
    "paired_fractions",
    "paired_p_value",
    "perplexity",
]
