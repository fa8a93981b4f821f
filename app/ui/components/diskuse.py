# SPDX-License-Identifier: Apache-2.0
"""Where the disk went, and the stored profiles with what each would give back."""

from html import escape
from pathlib import Path

from app.services.disk import DiskUse
from app.services.profiles import StoredProfile
from app.ui.components.actions import action
from app.ui.components.tables import framed
from app.ui.format import ago, integer, size


def disk_card(use: DiskUse) -> str:
    """What jobs and profiles take, of what they may take."""
    jobs, profiles = sum(job.total for job in use.jobs.values()), sum(one.bytes for one in use.profiles)
    limit = use.quota if use.quota is not None else use.taken + use.free
    words = [("jobs", jobs), ("profiles", profiles), ("demo model", use.models), ("free", use.free)]
    parts = "".join(f"<div><dt>{name}</dt><dd>{size(value)}</dd></div>" for name, value in words)
    quota = size(use.quota) if use.quota is not None else "no quota"
    bar = f'<meter min="0" max="{limit}" value="{use.taken}" aria-label="disk taken"></meter>'
    return (
        f'<dl class="diskuse">{parts}<div><dt title="MLA_QUOTA_GB">quota</dt><dd>{quota}</dd></div></dl>'
        f"{bar}{_profiles(use.profiles)}"
    )


def _profiles(profiles: tuple[StoredProfile, ...]) -> str:
    if not profiles:
        return ""
    head = "<tr><th>profile</th><th>text</th><th>disk</th><th>made</th><th></th></tr>"
    return framed("jobs profiles", "".join(map(_row, profiles)), head=head)


def _short(text: str) -> str:
    """Texts without the folders they are in."""
    return " + ".join(Path(part).name for part in text.split("+"))


def _row(one: StoredProfile) -> str:
    name = Path(one.model).name or f"unfinished {one.name[:8]}"
    about = f"{_short(one.text)}, {integer(one.tokens)} tokens" if one.model else "–"
    question = (
        f"Delete the profile of {name}? This gives back {size(one.bytes)}. "
        "Predictions need it, and the next conversion of this model calibrates anew."
    )
    button = action("delete-profile", one.name, "Delete", f"profile of {name}", confirm=question)
    return (
        f'<tr><th scope="row" title="{escape(one.model)}">{escape(name)}</th>'
        f'<td class="text" title="{escape(one.text)}">{escape(about)}</td>'
        f'<td data-label="disk">{size(one.bytes)}</td><td class="when">{ago(one.made_at)}</td>'
        f'<td class="acts">{button}</td></tr>'
    )
