# SPDX-License-Identifier: Apache-2.0
"""Gradio's own controls in the colours of the page; everything else is in static/style.css."""

from pathlib import Path

import gradio as gr

_STATIC = Path(__file__).parent / "static"
FAVICON = _STATIC / "favicon.svg"
# defines the tokens that the other sheets use
_FIRST = "style.css"

# names only, all of them installed with some operating system: nothing is fetched
_TEXT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Liberation Sans", "DejaVu Sans", "sans-serif")
_MONO = ("ui-monospace", "SF Mono", "Menlo", "Consolas", "Liberation Mono", "DejaVu Sans Mono", "monospace")


def style_sheet() -> str:
    """Every .css file of the static folder as one sheet, the tokens first."""
    files = sorted(_STATIC.glob("*.css"), key=lambda file: (file.name != _FIRST, file.name))
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def scripts() -> str:
    """Every .js file of the static folder, as what stands in the head of each page."""
    files = sorted(_STATIC.glob("*.js"))
    return "".join(f"<script>\n{file.read_text(encoding='utf-8')}</script>" for file in files)


def make_theme() -> gr.themes.Base:
    """Neutral greys and one accent; the tokens are defined in style.css for dark and light."""
    return gr.themes.Base(
        primary_hue="teal",
        neutral_hue="gray",
        font=[*_TEXT],
        font_mono=[*_MONO],
        radius_size="sm",
        spacing_size="md",
        text_size="md",
    ).set(
        body_background_fill="var(--page)",
        body_background_fill_dark="var(--page)",
        body_text_color="var(--ink)",
        body_text_color_dark="var(--ink)",
        body_text_color_subdued="var(--soft)",
        body_text_color_subdued_dark="var(--soft)",
        background_fill_primary="var(--card)",
        background_fill_primary_dark="var(--card)",
        background_fill_secondary="var(--sunk)",
        background_fill_secondary_dark="var(--sunk)",
        border_color_primary="var(--line)",
        border_color_primary_dark="var(--line)",
        block_background_fill="transparent",
        block_background_fill_dark="transparent",
        block_border_width="0px",
        block_border_width_dark="0px",
        block_shadow="none",
        block_shadow_dark="none",
        block_padding="0px",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_title_text_color="var(--ink)",
        block_title_text_color_dark="var(--ink)",
        block_title_text_weight="600",
        block_info_text_color="var(--soft)",
        block_info_text_color_dark="var(--soft)",
        input_background_fill="var(--field)",
        input_background_fill_dark="var(--field)",
        input_border_color="var(--line-strong)",
        input_border_color_dark="var(--line-strong)",
        input_border_width="1px",
        input_border_width_dark="1px",
        input_shadow="none",
        input_shadow_dark="none",
        checkbox_background_color="var(--field)",
        checkbox_background_color_dark="var(--field)",
        checkbox_border_color="var(--line-strong)",
        checkbox_border_color_dark="var(--line-strong)",
        slider_color="var(--accent)",
        slider_color_dark="var(--accent)",
        button_primary_background_fill="var(--accent)",
        button_primary_background_fill_dark="var(--accent)",
        button_primary_background_fill_hover="var(--accent-strong)",
        button_primary_background_fill_hover_dark="var(--accent-strong)",
        button_primary_text_color="var(--on-accent)",
        button_primary_text_color_dark="var(--on-accent)",
        button_secondary_background_fill="var(--card)",
        button_secondary_background_fill_dark="var(--card)",
        button_secondary_border_color="var(--line-strong)",
        button_secondary_border_color_dark="var(--line-strong)",
        button_secondary_text_color="var(--ink)",
        button_secondary_text_color_dark="var(--ink)",
        layout_gap="16px",
    )
