# SPDX-License-Identifier: Apache-2.0
"""Plots as pure functions: data of a figure event in, plotly Figure out. No gradio, no state."""
