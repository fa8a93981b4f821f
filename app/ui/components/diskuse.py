# SPDX-License-Identifier: Apache-2.0
"""Where the disk went, and the stored profiles and texts with what each would give back."""

import re
from collections.abc import Mapping
from html import escape
from pathlib import Path

from app.services.disk import DiskUse
from app.services.profiles import StoredProfile
from app.services.upload_list import StoredText
from app.ui.components.actions import action
from app.ui.components.tables import framed
from app.ui.format import ago, integer, size

# jobs named in a row; the rest is counted
_NAMED = 3
_CONTENT = re.compile(r"[0-9a-f]{64}\.txt")


def disk_card(use: DiskUse) -> str:
    """What jobs, profiles and texts take, of what they may take."""
    jobs, profiles = sum(job.total for job in use.jobs.values()), sum(one.bytes for one in use.profiles)
    limit = use.quota if use.quota is not None else use.taken + use.free
    words = [("jobs", jobs), ("profiles", profiles)]
    words += [("uploaded texts", sum(one.bytes for one in use.texts))] if use.texts else []
    words += [("demo model", use.models), ("free", use.free)]
    parts = "".join(f"<div><dt>{name}</dt><dd>{size(value)}</dd></div>" for name, value in words)
    quota = size(use.quota) if use.quota is not None else "no quota"
    bar = f'<meter min="0" max="{limit}" value="{use.taken}" aria-label="disk taken"></meter>'
    return (
        f'<dl class="diskuse">{parts}<div><dt title="MLA_QUOTA_GB">quota</dt><dd>{quota}</dd></div></dl>'
        f"{bar}{_profiles(use)}{_texts(use.texts)}"
    )


def _profiles(use: DiskUse) -> str:
    if not use.profiles:
        return ""
    head = "<tr><th>profile</th><th>text</th><th>disk</th><th>made</th><th></th></tr>"
    names = {one.path: one.name for one in use.texts}
    return framed("jobs profiles", "".join(_profile(one, names) for one in use.profiles), head=head)


def _short(text: str, names: Mapping[str, str]) -> str:
    """Texts without the folders they are in, uploads by the names people gave them."""
    return " + ".join(_named(part, names) for part in text.split("+"))


def _named(part: str, names: Mapping[str, str]) -> str:
    name = Path(part).name
    return names.get(part) or ("a deleted upload" if _CONTENT.fullmatch(name) else name)


def _profile(one: StoredProfile, names: Mapping[str, str]) -> str:
    name = Path(one.model).name or f"unfinished {one.name[:8]}"
    about = f"{_short(one.text, names)}, {integer(one.tokens)} tokens" if one.model else "–"
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


def _texts(texts: tuple[StoredText, ...]) -> str:
    if not texts:
        return ""
    head = "<tr><th>uploaded text</th><th>read by</th><th>disk</th><th>uploaded</th><th></th></tr>"
    return framed("jobs texts", "".join(map(_text, texts)), head=head)


def _text(one: StoredText) -> str:
    name, disk = escape(one.name), size(one.bytes) if one.bytes else "shared"
    return (
        f'<tr><th scope="row">{name}</th><td class="text">{_readers(one)}</td>'
        f'<td data-label="disk">{disk}</td><td class="when">{ago(one.uploaded_at)}</td>'
        f'<td class="acts">{_delete_text(one)}</td></tr>'
    )


def _readers(one: StoredText) -> str:
    links = [f'<a href="/jobs/{escape(job)}">{escape(job)}</a>' for job in one.jobs[:_NAMED]]
    more = len(one.jobs) - len(links)
    return ", ".join([*links, *([f"{more} more"] if more else [])]) or "no job"


def _delete_text(one: StoredText) -> str:
    """A button, or why there is none."""
    if one.needed_by:
        return f"needed by {escape(one.needed_by[0])}"
    freed = f"This gives back {size(one.bytes)}." if one.bytes else "Its content stays under its other name."
    jobs = f"{len(one.jobs)} jobs" if len(one.jobs) > 1 else "1 job"
    kept = f" What {jobs} made of it stays, but cannot be resumed or cloned with it." if one.jobs else ""
    question = f"Delete the text {one.name}? {freed}{kept}"
    return action("delete-text", one.name, "Delete", f"text {one.name}", confirm=question)
