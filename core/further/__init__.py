# SPDX-License-Identifier: Apache-2.0
"""A further evaluation of finished conversions, as a job: more texts, longer contexts, retrieval, lm-eval."""
