# SPDX-License-Identifier: Apache-2.0
"""The line under every plot: its picture, drawn in the browser, and its data, served by the REST API."""

from collections.abc import Mapping
from html import escape
from urllib.parse import urlencode

_PICTURES = ("png", "svg")
_DATA = ("csv", "json")


def plot_links(plot: str, title: str, address: str, query: Mapping[str, str] | None = None) -> str:
    """`plot` is the element the figure is in; `address` is its data's, without the ending that says how."""
    file = address.rsplit("/", 1)[-1]
    pictures = "".join(
        f'<button type="button" data-plot="{escape(plot)}" data-format="{kind}" data-file="{escape(file)}" '
        f'aria-label="{escape(title)} as {kind.upper()} picture">{kind.upper()}</button>'
        for kind in _PICTURES
    )
    return f'<p class="take"><span>Picture</span>{pictures}{_data("Data", title, address, query)}</p>'


def data_links(label: str, title: str, address: str, query: Mapping[str, str] | None = None) -> str:
    """Only data, for what shares its picture with something else."""
    return f'<p class="take">{_data(label, title, address, query)}</p>'


def _data(label: str, title: str, address: str, query: Mapping[str, str] | None) -> str:
    asked = f"?{urlencode(query)}" if query else ""
    links = "".join(
        f'<a href="{escape(f"{address}.{kind}{asked}")}" download '
        f'aria-label="data of {escape(title)} as {kind.upper()}">{kind.upper()}</a>'
        for kind in _DATA
    )
    return f"<span>{escape(label)}</span>{links}"
