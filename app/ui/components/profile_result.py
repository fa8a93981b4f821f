# SPDX-License-Identifier: Apache-2.0
"""What a finished profile job has to say: how far its predictions can be trusted, and where they are used."""

from collections.abc import Sequence
from html import escape
from urllib.parse import quote

from app.ui.components.chips import source
from app.ui.components.results import Metrics
from app.ui.format import integer, ratio, size
from app.ui.strings import preset_title
from core.store.views import StoredArtefact

_SPREAD = "profile_spread_"


def profile_summary(metrics: Metrics) -> str:
    """A sentence and a tile for each preset the profile speaks about."""
    made = metrics.get("calibrated_tokens")
    tokens = metrics.get("profile_tokens")
    was_there = made is not None and not made.value
    words = (
        "This model had its profile already; it is the same."
        if was_there
        else "Tuning this model now predicts its loss, and conversions need not calibrate."
    )
    tiles = [_tile(integer(tokens.value), "tokens read", tokens.source)] if tokens else []
    tiles += [
        _tile(
            ratio(metric.value),
            f"{preset_title(name.removeprefix(_SPREAD))}: a prediction is right within this factor",
            metric.source,
        )
        for name, metric in metrics.items()
        if name.startswith(_SPREAD)
    ]
    return f'<p class="verdict verdict-good">{words}</p><div class="tiles">{"".join(tiles)}</div>'


def profile_downloads(job_id: str, files: Sequence[StoredArtefact]) -> str:
    """The one file a profile job leaves, and what it is for."""
    links = "".join(
        f'<a class="button" href="/api/v1/jobs/{escape(job_id)}/files/{quote(file.name)}" download '
        f'title="SHA-256 {file.sha256}">{escape(file.name)} · {size(file.size)}</a>'
        for file in files
    )
    return (
        f'<div class="buttons">{links}</div><p class="caption">What every rank of every layer costs, as '
        "numbers. The workbench keeps its own copy, with the statistics that conversions read.</p>"
    )


def _tile(value: str, label: str, kind: str) -> str:
    return f'<div class="tile"><b>{value}</b><span>{label}</span>{source(kind)}</div>'
