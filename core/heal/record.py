# SPDX-License-Identifier: Apache-2.0
"""conversion.json and the model card of a healed model: those of the conversion, and what was learned."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from core.errors import ModelError
from core.export.card import NOT_TUNED, named_text, quality_rows, quality_words
from core.export.record import package_versions, sha256_of
from core.heal.curve import Curve
from core.heal.mix import read_mix, write_mix
from core.heal.spec import Healing
from core.spec import JobSpec, parse_spec

FILE = "conversion.json"
_LEARNED = {
    "attention": "the weights of the attention",
    "all": "all weights",
    "lora": "adapters on the attention",
}


def read_record(folder: Path) -> dict[str, Any]:
    """conversion.json of a converted model; raises ModelError without one."""
    try:
        found: dict[str, Any] = json.loads((folder / FILE).read_text(encoding="utf-8"))
        if not {"spec", "base", "metrics", "kv_bytes_per_token"} <= found.keys():
            raise ValueError("fields are missing")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(
            f"'{folder.name}' has no {FILE} that says how it was converted",
            hint="give a folder that 'mla-workbench convert' wrote",
            field="heal.source",
        ) from error
    return found


def write_healed_record(
    folder: Path,
    spec: JobSpec,
    healing: Healing,
    curve: Curve,
    teacher: Mapping[str, str],
    metrics: Mapping[str, float],
) -> None:
    """Add the section `healing` to conversion.json; figures and hashes are those of the healed weights.

    Nothing in it depends on the clock. `teacher` maps the original's weight files to their sha256.
    """
    record = read_record(folder)
    section = {
        "spec": _public(healing).model_dump(mode="json"),
        "teacher": {"sha256": dict(teacher)},
        "evaluation": spec.evaluation.model_dump(mode="json") if spec.evaluation else None,
        "curve": curve.as_record(),
        "metrics_before": record["metrics"],
        "versions": package_versions(),
    }
    if "healing" in record:
        # it was healed before: the older section is kept inside
        section["before"] = record["healing"]
    record |= {
        "healing": section,
        "metrics": dict(metrics),
        "files": {file.name: sha256_of(file) for file in sorted(folder.glob("*.safetensors"))},
    }
    (folder / FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def write_healed_card(
    folder: Path, spec: JobSpec, healing: Healing, curve: Curve, metrics: Mapping[str, float]
) -> None:
    """Bring README.md up to date: new figures where the old ones stand, and a section on the healing."""
    path, record = folder / "README.md", read_record(folder)
    card = path.read_text(encoding="utf-8") if path.is_file() else ""
    before, converted = record["healing"]["metrics_before"], parse_spec(record["spec"])
    changes = {
        quality_rows(before): quality_rows(metrics),
        quality_words(converted, before): quality_words(spec, metrics),
        NOT_TUNED: "Then it was healed, see below.",
    }
    for old, new in changes.items():
        if old:
            card = card.replace(old, new)
    head, limits, rest = card.partition("## Limits\n")
    path.write_text(f"{head}{_section(healing, curve, before, metrics)}\n{limits}{rest}", encoding="utf-8")


def _section(
    healing: Healing, curve: Curve, before: Mapping[str, float], metrics: Mapping[str, float]
) -> str:
    best, last = curve.best, curve.train[-1].tokens
    public = _public(healing)
    whom = f"{public.top_k} most likely tokens and the rest as one" if public.top_k else "whole vocabulary"
    lines = [
        "## Healing",
        "",
        f"The original taught the converted model on {last:,} tokens of {public.text} in windows of "
        f"{public.context}: KL divergence to its {whom}, {_LEARNED[public.trainable]} learned, AdamW at "
        f"{public.learning_rate:g}, seed {public.seed}.",
    ]
    if best is not None:
        first = curve.held_out[0]
        lines += [
            f"On {public.held_out} windows held back from that text the divergence went from {first.kl:.4f} "
            f"to {best.kl:.4f} nats per token; the weights are those after {best.tokens:,} tokens.",
        ]
    if "perplexity_ratio" in before and "perplexity_ratio" in metrics:
        lines += [
            "",
            "| measured | converted | healed |",
            "|---|--:|--:|",
            f"| perplexity against the original's | x{before['perplexity_ratio']:.3f} "
            f"| x{metrics['perplexity_ratio']:.3f} |",
            f"| KL divergence, nats per token | {before['kl_to_base']:.3f} | {metrics['kl_to_base']:.3f} |",
        ]
    return "\n".join(lines) + "\n"


def _public(healing: Healing) -> Healing:
    """Texts by the names of their files: paths are nobody's business."""
    mix = [replace(source, name=named_text(source.name)) for source in read_mix(healing.text)]
    return healing.model_copy(update={"text": write_mix(mix), "source": Path(healing.source).name})
