# SPDX-License-Identifier: Apache-2.0
"""Tests that every supported family has to pass."""
