# SPDX-License-Identifier: Apache-2.0
"""The values of the form of an evaluation by name, and what they ask for."""

from collections.abc import Mapping, Sequence
from typing import Any

from core.further.spec import Measurements
from core.spec import JobSpec

# boxes in which several numbers or names are written one after another
_LISTS = frozenset({"contexts", "retrieval_contexts", "harness"})
# the order in which a handler receives them
FIELDS: tuple[str, ...] = tuple(Measurements.model_fields)
_OF_RETRIEVAL = ("retrieval", "retrieval_contexts", "samples")
# place of a message -> the fields it stands beside
SLOTS: Mapping[str, tuple[str, ...]] = {
    "models": ("conversions", "model", "models"),
    "texts": ("texts", "contexts", "windows"),
    "retrieval": (*_OF_RETRIEVAL, "essay", "seed"),
    "harness": ("harness", "harness_folder", "harness_limit"),
}
# name of a choice -> its title and what it adds, and the boxes it fills
AMOUNTS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "quick": (
        "Texts\ntwo domains",
        {"texts": ["wikipedia-heldout", "news"], "contexts": "512", "windows": 8, "retrieval": []},
    ),
    "usual": (
        "Longer\nup to 2k tokens",
        {"texts": ["wikipedia-heldout", "news"], "contexts": "512, 2048", "windows": 8, "retrieval": []},
    ),
    "retrieval": (
        "Retrieval\nand three tasks",
        {
            "texts": ["wikipedia-heldout", "news"],
            "contexts": "512, 2048",
            "windows": 8,
            "retrieval": ["single-noise", "single-essay", "multikey"],
            "retrieval_contexts": "1024",
            "samples": 20,
        },
    ),
    "thorough": (
        "Thorough\nlonger, sharper",
        {
            "texts": ["wikipedia-heldout", "news", "python-docs"],
            "contexts": "512, 4096",
            "windows": 12,
            "retrieval": ["single-noise", "single-essay", "multikey", "multivalue", "variable-tracking"],
            "retrieval_contexts": "1024, 4096",
            "samples": 30,
        },
    ),
}
USUAL = "usual"


def initial(conversions: Sequence[str] = ()) -> dict[str, Any]:
    """As nobody has touched it."""
    values = {name: _shown(name, field.default) for name, field in Measurements.model_fields.items()}
    return values | dict(AMOUNTS[USUAL][1]) | {"conversions": list(conversions)}


def of_spec(spec: JobSpec) -> dict[str, Any]:
    """The form that asks for the same once more."""
    assert spec.evaluate is not None
    return {name: _shown(name, value) for name, value in spec.evaluate.model_dump(mode="json").items()}


def asked_of(entered: Sequence[Any]) -> dict[str, Any]:
    """Values in the order of FIELDS -> fields of Measurements; an empty box means: as usual."""
    said: dict[str, Any] = {}
    for name, value in zip(FIELDS, entered, strict=True):
        if isinstance(value, str):
            words = value.replace(",", " ").replace(";", " ").split()
            value = words if name in _LISTS else value.strip()
        if value is None or value == "" or (name == "contexts" and not value):
            continue
        if name == "retrieval_contexts" and not value:
            continue
        said[name] = value
    return said


def filled(amount: str) -> list[Any]:
    """What the boxes show under a choice, in the order of FIELDS; None leaves a box as it is."""
    return [AMOUNTS[amount][1].get(name) for name in FIELDS]


def amount_of(entered: Sequence[Any]) -> str | None:
    """The choice that fills the boxes so; None for measurements of one's own."""
    values = dict(zip(FIELDS, entered, strict=True))
    for name, (_, boxes) in AMOUNTS.items():
        if all(values[box] == value for box, value in boxes.items()):
            return name
    return None


def slot_of(field: str | None) -> str:
    """Where a problem of `field` is shown."""
    name = (field or "").removeprefix("evaluate.").partition(".")[0]
    return next((slot for slot, names in SLOTS.items() if name in names), "whole")


def _shown(name: str, value: Any) -> Any:
    if name in _LISTS:
        return ", ".join(map(str, value))
    return list(value) if isinstance(value, tuple) else value
