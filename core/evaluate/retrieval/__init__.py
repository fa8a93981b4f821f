# SPDX-License-Identifier: Apache-2.0
"""Retrieval from long texts: RULER's synthetic tasks (Hsieh et al. 2024, arXiv 2404.06654)."""

from core.evaluate.retrieval.asking import Answered, ask, string_match
from core.evaluate.retrieval.question import Question
from core.evaluate.retrieval.tasks import MAKERS, make_questions

__all__ = ["MAKERS", "Answered", "Question", "ask", "make_questions", "string_match"]
