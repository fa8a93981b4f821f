# SPDX-License-Identifier: Apache-2.0
"""The address at which the browser sees this server."""

import gradio as gr


def origin_of(request: gr.Request) -> str:
    """Scheme, host and port as the request named them: what a curl from the same machine needs."""
    return str(request.request.base_url) if request.request else "/"
