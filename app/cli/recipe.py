# SPDX-License-Identifier: Apache-2.0
"""`--recipe FILE`: a whole request from a file, with whatever else was said on the command line over it."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from app.cli.request import NO_PRESET, NO_WEIGHTS, read_changes
from app.services.recipes import decode_recipe, read_recipe, read_recipe_file
from core.errors import SpecError
from core.presets import find_preset
from core.recipe import without_weights
from core.spec import JobSpec, Recipe, parse_spec

STDIN = Path("-")
_PLAIN = ("model", "weights_keep", "revision", "dtype", "device", "shard_bytes")
_CALIBRATION = {"calibration": "text", "tokens": "tokens", "context": "context"}
_EVALUATION = {"evaluation": "text", "evaluation_context": "context", "windows": "windows"}


def said(context: typer.Context) -> dict[str, Any]:
    """The options that were given, without those that have their default."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {
        name: value
        for name, value in context.params.items()
        if (source := sources[name]) is not None and source.name == "COMMANDLINE"
    }


def asked_model(model: str | None) -> str:
    """The model of a command that has no recipe to take it from."""
    if model is None:
        raise SpecError("no model is named", hint="give MODEL, or a recipe with --recipe FILE", field="model")
    return model


def spec_from_recipe(file: Path, options: Mapping[str, Any]) -> JobSpec:
    """The request in `file` ("-" is standard input) with `options` over it.

    Raises SpecError naming the line of the file, or the option.
    """
    text = decode_recipe(sys.stdin.buffer.read(), "standard input") if file == STDIN else None
    spec = read_recipe_file(file) if text is None else read_recipe(text)
    if spec.kind != "convert":
        raise SpecError(
            f"this recipe is of kind {spec.kind}, not convert",
            hint="set kind to convert, or run 'mla-workbench profile'",
            field="kind",
        )
    fields = _with_budget(spec.model_dump(mode="json"), options)
    if options.get("model", spec.model) != spec.model:
        # a commit of one model is none of another
        fields["revision"] = None
    fields |= {name: options[name] for name in _PLAIN if name in options}
    if fields["weights_keep"] == NO_WEIGHTS:
        fields |= {"weights_keep": None, "recipe": without_weights(fields["recipe"])}
    fields["calibration"] |= {field: options[name] for name, field in _CALIBRATION.items() if name in options}
    fields["evaluation"] = _evaluation(fields["evaluation"], options)
    for part, changes in read_changes(options.get("changes") or ()).items():
        fields[part] = (fields[part] or {}) | changes
    return parse_spec(fields)


def _with_budget(fields: dict[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of the budget replaces all of it: a rank in the file would win over --keep."""
    name = options.get("preset")
    if name is not None:
        found = None if name == NO_PRESET else find_preset(name)
        recipe = found.recipe if found else Recipe()
        fields |= {"preset": found.name if found else None, "recipe": recipe.model_dump(mode="json")}
        fields |= {"keep": found.keep if found else fields["keep"], "rope_pairs": None}
        fields |= {"weights_keep": found.weights_keep if found else fields["weights_keep"]}
    budget = {one: options[one] for one in ("keep", "rope_dim", "kv_rank") if one in options}
    if budget and "max_loss" in options:
        raise SpecError(
            f"max_loss finds the budget, and {next(iter(budget))} sets it",
            hint="give one of them",
            field="max_loss",
        )
    if name is not None or "max_loss" in options or budget:
        fields |= {"rope_dim": None, "kv_rank": None, "layer_ranks": None}
    if "rope_dim" in budget:
        fields["rope_pairs"] = None
    if "kv_rank" in budget:
        fields["keep"] = None
    return fields | budget


def _evaluation(found: dict[str, Any] | None, options: Mapping[str, Any]) -> dict[str, Any] | None:
    if options.get("evaluation") == "none":
        return None
    changes = {field: options[name] for name, field in _EVALUATION.items() if name in options}
    return (found or {}) | changes if found is not None or changes else None
