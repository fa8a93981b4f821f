# SPDX-License-Identifier: Apache-2.0
"""The real demo model finds needles: the questions can be answered, and the two scores say so."""

import pytest
import torch

from core.calibrate.text import read_text
from core.evaluate import load_model
from core.evaluate.retrieval import ask, make_questions
from core.settings import Settings
from core.weights.demo import prepare_demo
from core.weights.tokenizer import load_tokenizer

pytestmark = pytest.mark.real


def test_it_finds_one_number_in_repeated_sentences(demo_settings: Settings) -> None:
    """At front, middle and end of 512 tokens; a score that were blind to the model would give 1 in 8."""
    folder = prepare_demo(demo_settings)
    model = load_model(folder, dtype=torch.float32, device="cpu")
    tokenizer = load_tokenizer(folder)
    questions = make_questions("single-noise", tokenizer, 512, 3, 0, read_text("python-docs")[:2_000])
    answered = [ask(model, tokenizer, one) for one in questions]
    assert [one.is_chosen for one in answered] == [True] * 3
    assert sum(one.found for one in answered) >= 2, [one.written for one in answered]
