# SPDX-License-Identifier: Apache-2.0
"""What a field of a request means, found by its dotted name: the hint beside a value that does not fit."""

from typing import Any, get_args

from pydantic import BaseModel


def help_for(model: type[BaseModel], field: str) -> str:
    """What the innermost part of a dotted name such as "evaluate.windows" that has a description says."""
    found = ""
    inner: type[BaseModel] | None = model
    for name in field.split("."):
        info = inner.model_fields.get(name) if inner else None
        if info is None:
            break
        found, inner = info.description or found, _part_of(info.annotation)
    return found


def _part_of(annotation: Any) -> type[BaseModel] | None:
    """The model that a field holds, perhaps beside null."""
    kinds = (annotation, *get_args(annotation))
    return next((one for one in kinds if isinstance(one, type) and issubclass(one, BaseModel)), None)
