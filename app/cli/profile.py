# SPDX-License-Identifier: Apache-2.0
"""`mla-workbench profile`: look at a model once, so that plans predict and conversions need not calibrate."""

import shutil
from pathlib import Path
from typing import Any

from app.cli.conversion import limit_threads, only_writer
from app.cli.output import TerminalSink
from app.services.text_names import with_uploads
from core.events import NeverCancel
from core.profiles import FILE, load_profile
from core.settings import Settings
from core.spec import JobSpec


def run_profile(spec: JobSpec, out: Path | None, settings: Settings) -> dict[str, Any]:
    """Make the profile, or find it made; `out` gets a copy of what it says (not of the statistics)."""
    limit_threads(settings)
    spec = with_uploads(settings, spec)
    with only_writer(settings.home / "profiles"):
        from core.kinds import profile

        folder = profile(spec, settings, TerminalSink(), NeverCancel())
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / FILE, out / FILE)
    found = load_profile(folder)
    recipes = [
        {
            "layout": one.recipe.layout,
            "spread": one.fit.spread,
            "points": [p.model_dump() for p in one.points],
        }
        for one in found.recipes
    ]
    return found.model_dump(exclude={"recipes"}) | {"folder": str(folder), "recipes": recipes}
