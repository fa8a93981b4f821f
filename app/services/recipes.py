# SPDX-License-Identifier: Apache-2.0
"""Recipe files: a whole JobSpec as YAML or JSON, read with the line of whatever is wrong in it."""

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from app.services.copy_as import as_recipe
from app.services.recipe_yaml import Document, read_yaml, write_yaml
from app.services.requests import read_request
from core.errors import SpecError
from core.spec import JobSpec

Format = Literal["yaml", "json"]
# kept pairs of 80 layers with 64 heads are some hundred kilobytes
MOST_BYTES = 4_000_000
# what a section says when all its lines are commented out
_SECTIONS = ("recipe", "calibration")


def write_recipe(spec: JobSpec, form: Format = "yaml") -> str:
    """The whole spec; YAML says beside every field what it means."""
    return write_yaml(spec) if form == "yaml" else as_recipe(spec) + "\n"


def read_recipe(text: str) -> JobSpec:
    """The spec a text means, in YAML or JSON; a named preset fills what is not said.

    Raises SpecError with the line, the field and the fix.
    """
    if len(text.encode("utf-8", "replace")) > MOST_BYTES:
        raise SpecError(
            f"a recipe has at most {MOST_BYTES // 1_000_000} MB", hint="give a recipe file", field="recipe"
        )
    document = _document(text)
    if document.value is None:
        raise SpecError("the recipe is empty", hint="write at least 'model: demo'", field="recipe")
    if not isinstance(document.value, dict):
        raise SpecError(
            "a recipe is a list of fields, and this is something else",
            hint="begin with 'model: …', or with { for JSON",
            field="recipe",
        )
    said = {
        name: value for name, value in document.value.items() if value is not None or name not in _SECTIONS
    }
    try:
        _check_names(said, JobSpec, ())
        return read_request(said)
    except SpecError as error:
        raise _located(error, document, text) from error


def read_recipe_file(path: Path) -> JobSpec:
    """The spec in the file at `path`; raises SpecError when it cannot be read or is none."""
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise SpecError(
            f"the recipe '{path}' cannot be read: {error.strerror}",
            hint="give the path of a YAML or JSON file",
            field="recipe",
        ) from error
    return read_recipe(decode_recipe(content, path.name))


def decode_recipe(content: bytes, name: str) -> str:
    """The text of a file; raises SpecError when it is none."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SpecError(
            f"'{name}' is not UTF-8 text", hint="give a YAML or JSON file, saved as UTF-8", field="recipe"
        ) from error
    if "\0" in text:
        raise SpecError(f"'{name}' is a binary file", hint="give a YAML or JSON file", field="recipe")
    return text


def _document(text: str) -> Document:
    """JSON where it begins like JSON; YAML has that form too, without the quotes."""
    if not text.lstrip().startswith("{"):
        return read_yaml(text)
    try:
        return Document(json.loads(text, object_pairs_hook=_said_once))
    except RecursionError as error:
        raise SpecError(
            "this is nested too deeply", hint="a recipe is fields and parts", field="recipe"
        ) from error
    except json.JSONDecodeError as error:
        try:
            return read_yaml(text)
        except SpecError:
            raise SpecError(
                f"line {error.lineno}: this is not JSON: {error.msg}",
                hint='write "name": value, with a comma between two fields and none after the last',
                field="recipe",
            ) from error


def _said_once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise SpecError(f"'{name}' is said twice", hint="keep one of them", field="recipe")
        found[name] = value
    return found


def _check_names(said: Mapping[str, Any], model: type[BaseModel], path: tuple[str, ...]) -> None:
    """Raise SpecError for a field that is none, with the one that was probably meant."""
    for name, value in said.items():
        whole = ".".join((*path, name))
        if name not in model.model_fields:
            raise SpecError(f"there is no field '{name}'", hint=_meant(name, model, path), field=whole)
        part = _part(model, name)
        if part is None or value is None:
            continue
        if not isinstance(value, dict):
            raise SpecError(
                f"'{name}' has fields of its own", hint="list them under it, indented", field=whole
            )
        _check_names(value, part, (*path, name))


def _part(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    """The model of a field that is a part of its own."""
    default = model.model_fields[name].default
    return type(default) if isinstance(default, BaseModel) else None


def _meant(name: str, model: type[BaseModel], path: tuple[str, ...]) -> str:
    """Which field was probably meant, here or in another part."""
    sections = {section: part for section in JobSpec.model_fields if (part := _part(JobSpec, section))}
    places = {one: f"{section}.{one}" for section, part in sections.items() for one in part.model_fields}
    places |= {one: one for one in JobSpec.model_fields}
    places |= {one: ".".join((*path, one)) for one in model.model_fields}
    close = difflib.get_close_matches(name, places, n=1)
    if not close:
        return f"choose one of: {', '.join(model.model_fields)}"
    place = places[close[0]]
    if close[0] in model.model_fields:
        return f"did you mean '{close[0]}'?"
    if "." not in place:
        return f"'{place}' belongs to the whole recipe: do not indent it"
    section, _, field = place.partition(".")
    return f"'{field}' belongs under '{section}', indented"


def _located(error: SpecError, document: Document, text: str) -> SpecError:
    """The same error with the line its field stands on."""
    parts = (error.field or "").split(".")
    while parts and parts[0]:
        line = document.lines.get(".".join(parts)) or _json_line(text, parts)
        if line:
            return SpecError(f"line {line}: {error.message}", hint=_fix(error), field=error.field)
        parts.pop()
    return SpecError(error.message, hint=_fix(error), field=error.field)


def _fix(error: SpecError) -> str:
    """The hint, with the choice that was probably meant in front."""
    wrong = re.search(r"'([^']*)'", error.message)
    listed = error.hint.removeprefix("choose one of: ")
    if not wrong or listed == error.hint:
        return error.hint
    close = difflib.get_close_matches(wrong[1], listed.split(", "), n=1)
    return f"did you mean '{close[0]}'? Otherwise {error.hint}" if close else error.hint


def _json_line(text: str, parts: list[str]) -> int | None:
    """Where JSON names the field; its parser does not say."""
    if not text.lstrip().startswith("{"):
        return None
    at = 0
    for part in parts:
        found = re.compile(rf'"{re.escape(part)}"\s*:').search(text, at)
        if found is None:
            return None
        at = found.start()
    return text.count("\n", 0, at) + 1
