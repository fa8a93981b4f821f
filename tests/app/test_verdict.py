# SPDX-License-Identifier: Apache-2.0
"""Verdicts: what a colleague would say of a result, never a guess."""

import pytest

from app.services.verdict import verdict
from app.ui.components.results import summary
from core.store.views import StoredMetric


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (1.002, "no loss that can be measured"),
        (1.03, "almost no loss"),
        (1.05, "almost no loss: perplexity ×1.050"),
        (1.3, "noticeable loss: perplexity ×1.30. Healing (fine-tuning) would win some of it back"),
        (2.0, "lost a good part of its quality: perplexity ×2.00. It needs healing"),
        (5.0, "not usable as it is: perplexity ×5.00. It needs healing"),
        (130.0, "not usable as it is: perplexity ×130. It needs healing"),
    ],
)
def test_the_verdict_says_it_plainly(ratio: float, words: str) -> None:
    """Each band has its sentence, and the ratio is in it."""
    metrics = {
        "perplexity_ratio": ratio,
        "kv_bytes_per_token_before": 23040.0,
        "kv_bytes_per_token_measured": 7200.0,
    }
    assert words in verdict(metrics)
    assert "3.2 times smaller" in verdict(metrics)
    assert f"×{ratio:.3f}"[:4] in verdict(metrics)


def test_the_verdict_never_guesses() -> None:
    """Without a measurement it says that there is none."""
    assert "not measured" in verdict({})
    assert "not measured" in verdict({"kv_bytes_per_token_before": 2.0, "kv_bytes_per_token_formula": 1.0})


def test_the_verdict_of_an_infinite_perplexity_is_not_that_nobody_measured() -> None:
    """The record drops what is not finite, the command line has it: both say what happened."""
    for metrics in ({"perplexity_base": 20.0}, {"perplexity_ratio": float("inf")}):
        assert "perplexity cannot be measured: infinite" in verdict(metrics)
        assert "not measured" not in verdict(metrics)
    base = StoredMetric(name="perplexity_base", value=20.0, unit="", source="measured")
    assert "verdict-bad" in summary({"perplexity_base": base})


def test_the_verdict_admits_a_larger_cache() -> None:
    """float32 of a bfloat16 model at keep 1 doubles the cache."""
    metrics = {"kv_bytes_per_token_before": 100.0, "kv_bytes_per_token_measured": 200.0}
    assert "2.0 times larger" in verdict(metrics)
