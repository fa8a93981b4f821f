# SPDX-License-Identifier: Apache-2.0
"""The second budget, --weights-keep: linear layers become smaller ones (LatentLLM, arXiv 2505.18413)."""
