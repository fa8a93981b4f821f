# SPDX-License-Identifier: Apache-2.0
"""The values of the healing form by name, and what they ask for."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.ui.form_base import NOT_MEASURED
from core.spec import Evaluation, Healing, JobSpec

# name of a choice -> its words, its tokens
AMOUNTS: Mapping[str, tuple[str, int]] = {
    "quick": ("Quick", 20_000),
    "usual": ("Usual", 100_000),
    "thorough": ("Thorough", 300_000),
    "long": ("Long", 1_000_000),
}
# heading -> fields under More, in the order they are shown
MORE: Mapping[str, tuple[str, ...]] = {
    "Text and windows": ("text_field", "context", "windows", "accumulate", "repeat", "seed"),
    "Learning": ("lora_rank", "weight_decay", "schedule", "warmup", "decay", "clip"),
    "Loss": ("top_k", "temperature", "cross_entropy", "hidden_loss", "attention_loss"),
    "When it looks and stops": ("held_out", "evaluations", "patience", "target_kl"),
    "Machine": ("precision", "checkpoint_activations", "checkpoint_seconds"),
}
_SHOWN = ("tokens", "text", "learning_rate", "trainable", *(one for names in MORE.values() for one in names))
# fields of Evaluation, with the prefix of their boxes
_MEASURED = {f"evaluation_{name}": name for name in Evaluation.model_fields}
# the order in which a handler receives them
FIELDS: tuple[str, ...] = (*_SHOWN, *_MEASURED)


def initial(evaluation: Evaluation | None = None) -> dict[str, Any]:
    """As nobody has touched it; `evaluation` is how the conversion was measured."""
    usual = {name: Healing.model_fields[name].default for name in _SHOWN}
    return usual | _measured(evaluation or Evaluation())


def of_spec(spec: JobSpec) -> dict[str, Any]:
    """The form that asks for the same once more."""
    assert spec.heal is not None
    said = spec.heal.model_dump(mode="json", include=set(_SHOWN))
    shown = initial(spec.evaluation) | said
    return shown if spec.evaluation else shown | {"evaluation_text": NOT_MEASURED}


def asked_of(entered: Sequence[Any]) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Values in the order of FIELDS -> (fields of Healing, Evaluation); an empty box means: as usual."""
    values = dict(zip(FIELDS, entered, strict=True))
    said = {name: one.strip() if isinstance(one, str) else one for name, one in values.items()}
    said = {name: one for name, one in said.items() if one not in (None, "")}
    healing = {name: said[name] for name in _SHOWN if name in said}
    if said.get("evaluation_text") == NOT_MEASURED:
        return healing, None
    return healing, {field: said[box] for box, field in _MEASURED.items() if box in said}


def amount_of(tokens: Any) -> str | None:
    """The choice that has these tokens; None for a number of one's own."""
    return next((name for name, (_, usual) in AMOUNTS.items() if usual == tokens), None)


def slot_of(field: str) -> str:
    """Beside which box a problem with `field` of a JobSpec is said."""
    part, _, name = field.partition(".")
    if part == "evaluation":
        return "evaluation"
    if part != "heal" or name not in _SHOWN:
        return "whole"
    return next((heading for heading, names in MORE.items() if name in names), name)


def _measured(evaluation: Evaluation) -> dict[str, Any]:
    return {box: getattr(evaluation, field) for box, field in _MEASURED.items()}
