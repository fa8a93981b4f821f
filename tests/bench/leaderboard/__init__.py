# SPDX-License-Identifier: Apache-2.0
"""The leaderboard: every preset at every budget, converted, measured and written to docs/leaderboard.md.

Run by `make bench`; `PYTHONPATH=tests/bench python -m leaderboard --help` lists what can be left out.
"""
