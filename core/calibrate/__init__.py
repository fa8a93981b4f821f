# SPDX-License-Identifier: Apache-2.0
"""Text and the statistics a recipe takes from it, one layer in memory at a time."""
