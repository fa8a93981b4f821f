# SPDX-License-Identifier: Apache-2.0
"""The rotary stages: score the pairs, choose which keep RoPE."""
