# SPDX-License-Identifier: Apache-2.0
"""YAML as a recipe needs it: plain values with the line each stands on, and a spec written with comments.

Read from the parser's events, not with a YAML loader: no tag makes an object, no alias unfolds into a
gigabyte, `no` is a word and not false, and a nesting that would end the process is refused.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import UnionType
from typing import Any, get_args

import yaml

from core.errors import SpecError
from core.spec import Frozen, JobSpec
from core.stages import STAGES

# a JobSpec is 4 deep; the parser itself ends the process at some 10 000
_MOST_DEEP = 12
_COMMENT_COLUMN = 36
_WORDS: Mapping[str, Any] = {"": None, "~": None, "null": None, "true": True, "false": False}
_INTEGER = re.compile(r"[-+]?[0-9]+")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
# what needs no quotes anywhere, and is no number, null or boolean to any reader of YAML
_BARE = re.compile(r"[A-Za-z/~][A-Za-z0-9_./+-]*|2-norm")
_NOT_BARE = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n", "~"})
_HEAD = "# A recipe of mla-workbench. What is left out is the preset's, or the usual value."


@dataclass
class Document:
    """What a text says, and on which line every field stands: {"recipe.layout": 12}."""

    value: Any
    lines: dict[str, int] = field(default_factory=dict)


def read_yaml(text: str) -> Document:
    """Raises SpecError, with the line, for what is not YAML or uses more of it than a recipe needs."""
    document = Document(None)
    try:
        events = iter(yaml.parse(text, Loader=_parser()))
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                document.value = _value(next(events), events, document.lines, ())
                break
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise _refused(
            f"this is not YAML: {error.problem}",
            mark.line + 1 if mark else None,
            "indent with spaces, write 'name: value', and put quotes around what has ': ' or '#' in it",
        ) from error
    except yaml.YAMLError as error:
        raise _refused(f"this is not YAML: {error}", None, "write plain text") from error
    return document


def _parser() -> Any:
    return yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader


def _value(event: Any, events: Iterator[Any], lines: dict[str, int], path: tuple[str, ...]) -> Any:
    line = event.start_mark.line + 1
    lines.setdefault(".".join(path), line)
    if isinstance(event, yaml.AliasEvent) or event.anchor:
        raise _refused("anchors and aliases mean nothing in a recipe", line, "write the value out")
    if event.tag:
        raise _refused(
            f"tags such as {event.tag[:40]} mean nothing in a recipe", line, "write the value alone"
        )
    if isinstance(event, yaml.ScalarEvent):
        return _scalar(event.value) if not event.style else event.value
    if len(path) >= _MOST_DEEP:
        raise _refused("this is nested too deeply", line, "a recipe is fields, parts and lists of numbers")
    if isinstance(event, yaml.SequenceStartEvent):
        return _items(events, lines, path)
    return _fields(events, lines, path)


def _items(events: Iterator[Any], lines: dict[str, int], path: tuple[str, ...]) -> list[Any]:
    found: list[Any] = []
    for event in events:
        if isinstance(event, yaml.SequenceEndEvent):
            break
        found.append(_value(event, events, lines, (*path, str(len(found)))))
    return found


def _fields(events: Iterator[Any], lines: dict[str, int], path: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for event in events:
        if isinstance(event, yaml.MappingEndEvent):
            break
        line = event.start_mark.line + 1
        if not isinstance(event, yaml.ScalarEvent):
            raise _refused("the name of a field is one word", line, "write 'name: value'")
        if event.value in found:
            raise _refused(f"'{event.value}' is said twice", line, "keep one of them")
        lines[".".join((*path, event.value))] = line
        found[event.value] = _value(next(events), events, lines, (*path, event.value))
    return found


def _scalar(text: str) -> Any:
    """A word without quotes, by the core schema of YAML 1.2: the same values that JSON has."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _INTEGER.fullmatch(text):
        # more digits than any field has; int() itself refuses some thousands of them
        return int(text) if len(text) < 30 else float(text)
    return float(text) if _NUMBER.fullmatch(text) else text


def _refused(message: str, line: int | None, hint: str) -> SpecError:
    return SpecError(f"line {line}: {message}" if line else message, hint=hint, field="recipe")


def write_yaml(spec: JobSpec) -> str:
    """Every field of `spec` with what it means beside it; `read_yaml` gives the same values back."""
    return "\n".join([_HEAD, *_lines(spec, "")]) + "\n"


def _lines(part: Frozen, indent: str) -> Iterator[str]:
    for name, info in type(part).model_fields.items():
        value = getattr(part, name)
        if isinstance(value, Frozen):
            yield f"{indent}{name}:"
            yield from _lines(value, indent + "  ")
            continue
        about = _about(name, info.annotation, info.description or "")
        first, *rest = _written(value, indent)
        yield f"{f'{indent}{name}: {first}':<{_COMMENT_COLUMN}}  # {about}".rstrip(" #")
        yield from rest


def _about(name: str, kind: Any, description: str) -> str:
    """What the field means and, where there is a list of them, what can be chosen."""
    if name in STAGES:
        return f"{description} {', '.join(STAGES[name].ready)}"
    # the parts of a union ("int | None") are types; those of a Literal are what can be written
    choices = [] if isinstance(kind, UnionType) else [one for one in get_args(kind) if isinstance(one, str)]
    return "; ".join(filter(None, [description, ", ".join(choices)]))


def _written(value: Any, indent: str) -> list[str]:
    """The value in one line; a list of lists has a line for each."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        if any(isinstance(one, Sequence) for one in value):
            return ["", *(f"{indent}  - {_flow(one)}" for one in value)]
        return [_flow(value)]
    return [_word(value)]


def _flow(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(_flow(one) for one in value)}]"
    return _word(value)


def _word(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, float):
        # a reader of YAML 1.1 takes 1e-06 for a word
        return re.sub(r"^(-?\d+)e", r"\1.0e", repr(value))
    if isinstance(value, str) and (not _BARE.fullmatch(value) or value.lower() in _NOT_BARE):
        quoted: str = yaml.safe_dump(value, default_style='"', allow_unicode=True, width=float("inf"))
        return quoted.rstrip("\n")
    return str(value)
