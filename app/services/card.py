# SPDX-License-Identifier: Apache-2.0
"""The model card as it leaves: the one of the conversion, with what evaluations have found since."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from app.services.evaluations import evaluations
from app.services.roots import JOB
from app.services.workbench import Workbench
from core.further.markdown import HOW, sections

NAME = "README.md"
_BEFORE = "## Limits\n"
_KINDS = ("texts", "retrieval", "harness")


def current_card(workbench: Workbench, job_id: str, stored: Path) -> Path:
    """`stored`, the card in the result, when nothing was measured since; else a copy with the tables in it.

    The result itself stays as it was written. Evaluations are never changed, so equal ones give equal bytes.
    """
    found = _found(workbench, job_id)
    if not any(found[kind] for kind in _KINDS):
        return stored
    head, limits, rest = stored.read_text(encoding="utf-8").partition(_BEFORE)
    parts = ["## Measured further\n", HOW, *sections(found, level=3)]
    text = head + "\n".join(parts) + f"\n{limits}{rest}"
    path = workbench.settings.jobs_dir / job_id / NAME
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        partial = path.with_suffix(".partial")
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    return path


def _found(workbench: Workbench, job_id: str) -> dict[str, Any]:
    """Rows of the conversion and of its original, under names that mean something elsewhere."""
    names = {f"{JOB}{job_id}": "this model"}
    found: dict[str, Any] = {kind: [] for kind in _KINDS}
    for job in reversed(evaluations(workbench, [job_id])):
        report = workbench.store.figures(job.id).get("evaluation", {})
        known = names | {report.get("base"): "the original"}
        for kind in _KINDS:
            found[kind] += [*_renamed(report.get(kind, ()), known)]
    return found


def _renamed(rows: Any, names: Mapping[Any, str]) -> Iterator[dict[str, Any]]:
    for row in rows:
        if row["model"] in names:
            yield dict(row) | {"model": names[row["model"]]}
