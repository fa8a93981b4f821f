# SPDX-License-Identifier: Apache-2.0
"""`mla-workbench heal`: let a converted model learn from its original."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.conversion import run_conversion
from app.cli.options import Json
from app.cli.output import conversion_lines, reported, show
from app.services.text_names import with_uploads
from core.errors import ModelError, SpecError
from core.heal.spec import Healing
from core.settings import load_settings
from core.spec import Evaluation, JobSpec, parse_spec

_USUAL = {name: field.default for name, field in Healing.model_fields.items()}


def heal(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="folder of a converted model")],
    out: Annotated[Path, typer.Option(help="folder to create")],
    teacher: Annotated[str | None, typer.Option(help="the original; default: the one DIR names")] = None,
    text: Annotated[
        str,
        typer.Option(help="UTF-8, .jsonl or .parquet file, named text or hub:OWNER/NAME; also a:0.8,b:0.2"),
    ] = _USUAL["text"],
    tokens: Annotated[int, typer.Option(help="tokens to train on, at most")] = _USUAL["tokens"],
    context: Annotated[int, typer.Option(help="tokens per window")] = _USUAL["context"],
    trainable: Annotated[str, typer.Option(help="attention, all or lora")] = _USUAL["trainable"],
    learning_rate: Annotated[
        float, typer.Option(help="highest rate of AdamW, as a share of the size of a weight")
    ] = _USUAL["learning_rate"],
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="any other field of heal, such as repeat=true"),
    ] = None,
    evaluation: Annotated[str, typer.Option(help="held-out text; 'none' skips it")] = Evaluation().text,
    evaluation_context: Annotated[
        int, typer.Option(help="tokens per evaluation window")
    ] = Evaluation().context,
    windows: Annotated[int, typer.Option(help="evaluation windows")] = Evaluation().windows,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    json: Json = False,
) -> None:
    """Train a converted model to give what its original gives; run it again to continue."""
    with reported(json):
        asked = {"text": text, "tokens": tokens, "context": context, "trainable": trainable}
        spec = heal_spec(
            source.expanduser(),
            teacher,
            asked | {"learning_rate": learning_rate} | _changes(changes or ()),
            {"text": evaluation, "context": evaluation_context, "windows": windows},
            device,
        )
        settings = load_settings()
        metrics = run_conversion(with_uploads(settings, spec), out.expanduser().absolute(), settings)
        show(
            {"out": str(out), "spec": spec.model_dump(mode="json"), "metrics": metrics},
            json,
            heal_lines(out, metrics),
        )


def heal_spec(
    source: Path,
    teacher: str | None,
    healing: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    device: str = "auto",
) -> JobSpec:
    """The request: how the folder was converted, and how it is to be healed; evaluation text "none" skips it.

    Without a teacher it is the original that the folder names. Raises ModelError when `source` is no folder
    of ours, SpecError naming the field.
    """
    said = _recorded_spec(source)
    if teacher is not None:
        said |= {"model": teacher, "revision": None}
    measured = None if evaluation["text"] == "none" else dict(evaluation)
    asked = dict(healing) | {"source": str(source.absolute())}
    return parse_spec(said | {"kind": "heal", "heal": asked, "evaluation": measured, "device": device})


def heal_lines(out: Path, metrics: Mapping[str, float]) -> list[str]:
    """What came out, for a terminal."""
    lines = conversion_lines(out, metrics)
    learned = (
        f"healed on {metrics['healing_tokens']:,.0f} tokens: held-out KL {metrics['healing_kl_first']:.4f} "
        f"-> {metrics['healing_kl']:.4f} nats after {metrics['healing_best_tokens']:,.0f}"
    )
    before = metrics.get("perplexity_ratio_before_healing")
    return [lines[0], learned, *([f"before it, perplexity x{before:.3g}"] if before else []), *lines[1:]]


def _changes(changes: Sequence[str]) -> dict[str, str]:
    """["repeat=true"] -> {"repeat": "true"}; raises SpecError for what sets nothing."""
    found = {}
    for change in changes:
        name, equals, value = (part.strip() for part in change.partition("="))
        if not equals or name not in Healing.model_fields or name == "source":
            known = [one for one in Healing.model_fields if one != "source"]
            raise SpecError(
                f"--set {change} sets nothing of a healing",
                hint=f"write NAME=VALUE with one of: {', '.join(known)}",
                field=f"heal.{name}",
            )
        found[name] = value
    return found


def _recorded_spec(source: Path) -> dict[str, Any]:
    try:
        found = json.loads((source / "conversion.json").read_text(encoding="utf-8"))["spec"]
        return dict(found) | {"model": found["model"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"'{source}' does not say how it was converted",
            hint="give a folder that 'mla-workbench convert' wrote",
            field="heal.source",
        ) from error
