# SPDX-License-Identifier: Apache-2.0
"""conversion.json and the model card: what was done, to what, with which result.

Nothing in them depends on the clock or on this machine's speed, so equal jobs give equal folders.
"""

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from core.facts import ModelFacts
from core.planning import Plan
from core.spec import JobSpec

_PACKAGES = ("mla-workbench", "torch", "transformers", "safetensors")


def sha256_of(path: Path) -> str:
    """Hex digest of a file, read in blocks."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_record(
    folder: Path,
    spec: JobSpec,
    facts: ModelFacts,
    plan: Plan,
    base_files: Mapping[str, str],
    layers: list[dict[str, Any]],
    metrics: Mapping[str, float],
    fingerprint: str,
) -> None:
    """Write conversion.json into `folder`; `base_files` maps the original's weight files to their sha256."""
    record = {
        "fingerprint": fingerprint,
        "spec": spec.model_dump(mode="json"),
        "base": {"name": facts.name, "revision": facts.revision, "sha256": dict(base_files)},
        "kv_bytes_per_token": {
            "before": plan.kv_bytes_per_token_before,
            "after": plan.kv_bytes_per_token_after,
        },
        "layers": layers,
        "metrics": dict(metrics),
        "versions": package_versions(),
        "files": {file.name: sha256_of(file) for file in sorted(folder.glob("*.safetensors"))},
    }
    (folder / "conversion.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def package_versions() -> dict[str, str]:
    """Of the packages that decide about the bytes."""
    return {name: _version(name) for name in _PACKAGES}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
