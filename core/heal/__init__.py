# SPDX-License-Identifier: Apache-2.0
"""Healing: a converted model learns from its original what the conversion lost (distillation)."""
