# SPDX-License-Identifier: Apache-2.0
"""What sets two requests apart, field by field: the rows a clone or a comparison shows."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from core.spec import Frozen, JobSpec


class SpecChange(Frozen):
    """One field that differs, by its path in the JSON of a JobSpec: "recipe.layout", "calibration.tokens"."""

    path: str
    before: Any
    after: Any


def diff_specs(before: JobSpec, after: JobSpec) -> list[SpecChange]:
    """Every field that is not the same in both, in the order of JobSpec; empty for equal specs."""
    rows = differing_fields([before, after])
    return [SpecChange(path=path, before=values[0], after=values[1]) for path, values in rows.items()]


def differing_fields(specs: Sequence[JobSpec]) -> dict[str, list[Any]]:
    """Path -> one value per spec, for the fields in which they are not all the same."""
    said = [dict(_leaves(spec.model_dump(mode="json"))) for spec in specs]
    # a part that one of them leaves out (evaluation: null) has its fields in the others only
    paths = list(dict.fromkeys(path for fields in said for path in fields))
    rows = {path: [fields.get(path) for fields in said] for path in _in_order(paths)}
    return {path: values for path, values in rows.items() if any(one != values[0] for one in values)}


def _leaves(fields: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that is not itself a part of the spec; lists are one value."""
    for name, value in fields.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _in_order(paths: Sequence[str]) -> list[str]:
    """As JobSpec lists its fields; a stable sort keeps the order inside each part."""
    fields = list(JobSpec.model_fields)
    return sorted(paths, key=lambda path: fields.index(path.split(".")[0]))
