# SPDX-License-Identifier: Apache-2.0
"""A place for a plot that is not there while there is nothing to draw: an empty one says only that."""

from typing import Any

import gradio as gr


def plot_box(name: str) -> gr.Plot:
    """`name` is the id that plot_links takes."""
    return gr.Plot(show_label=False, visible=False, elem_id=name)


def drawn(figure: Any) -> Any:
    """`figure` for a plot_box; None takes it away."""
    return gr.Plot(value=figure, visible=figure is not None)
