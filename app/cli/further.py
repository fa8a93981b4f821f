# SPDX-License-Identifier: Apache-2.0
"""The longer half of `mla-workbench evaluate`: what the page's "Evaluate further" does, in this process."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.cli.conversion import run_conversion
from app.services.text_names import with_uploads
from core.chat.naming import JOB, folder_of
from core.errors import ModelError
from core.settings import Settings
from core.spec import JobSpec, parse_spec
from core.weights.locate import locate

# in the place of a text: texts are not measured
NO_TEXT = "none"


def further_spec(
    model: str,
    base: str | None,
    revision: str | None,
    measured: Mapping[str, Any],
    device: str,
    settings: Settings,
) -> JobSpec:
    """The request. Of a converted model the original is `base`, or the one named in conversion.json.

    `revision` is that of `base` where one is given, and of `model` otherwise.
    `measured` are fields of Measurements; its conversions stand beside `model`. Raises ModelError when a
    model is missing, SpecError naming the field.
    """
    from core.evaluate import is_converted

    of_model = None if base else revision
    folder = (
        folder_of(model, settings)
        if model.startswith(JOB)
        else locate(model, revision=of_model, settings=settings).folder
    )
    conversions = [*measured["conversions"]]
    if is_converted(folder):
        # a Hub id of a conversion leads to the folder it was fetched into
        is_named = model.startswith(JOB) or Path(model).expanduser().is_dir()
        conversions.insert(0, model if is_named else str(folder))
        model, revision = recorded_base(folder) if base is None else (base, revision)
    elif base is not None:
        raise ModelError(
            f"'{model}' is no converted model, so it has no --base",
            hint="leave --base out, or name a conversion",
            field="model",
        )
    asked = {**measured, "conversions": conversions}
    spec = parse_spec(
        {"kind": "evaluate", "model": model, "revision": revision, "device": device, "evaluate": asked}
    )
    return with_uploads(settings, spec)


def run_further(spec: JobSpec, out: Path | None, settings: Settings) -> tuple[dict[str, Any], list[str]]:
    """(evaluation.json, lines of evaluation.md); both are kept in the folder `out`, when one is given."""
    if out is not None:
        return _run(spec, out.expanduser().absolute(), settings)
    with tempfile.TemporaryDirectory() as folder:
        return _run(spec, Path(folder) / "evaluation", settings)


def _run(spec: JobSpec, out: Path, settings: Settings) -> tuple[dict[str, Any], list[str]]:
    run_conversion(spec, out, settings)
    found: dict[str, Any] = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
    return found, (out / "evaluation.md").read_text(encoding="utf-8").splitlines()


def recorded_base(folder: Path) -> tuple[str, str | None]:
    """(name, revision) of the original, as recorded when it was converted."""
    record = folder / "conversion.json"
    if not record.is_file():
        raise ModelError(
            f"'{folder.name}' does not say what it was converted from",
            hint="name the original model with --base",
            field="model",
        )
    found = json.loads(record.read_text(encoding="utf-8"))["base"]
    return str(found["name"]), found["revision"]
