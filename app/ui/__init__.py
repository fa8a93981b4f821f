# SPDX-License-Identifier: Apache-2.0
"""The page. Only this package knows gradio, only app/ui/plots knows plotly."""
