# SPDX-License-Identifier: Apache-2.0
"""The model card of an export: what was done to what, what it costs and saves, how to load it, its limits."""

from collections.abc import Mapping
from pathlib import Path

from core.arch import find_architecture
from core.calibrate.text import text_parts
from core.decode_cost import decode_flops
from core.export.card_words import limits, stage_table
from core.export.licence import licence_of
from core.facts import ModelFacts
from core.further.markdown import texts_table
from core.further.own import own_row
from core.planning import Plan
from core.presets import PRESETS
from core.spec import JobSpec

_TEMPLATE = """---
library_name: transformers
pipeline_tag: text-generation
{base_line}{licence_line}tags:
- mla
- kv-cache
---

# {title}, {factor:.1f}x smaller KV cache

Multi-head Latent Attention version of {base}, made by mla-workbench: the keys and values of every attention
layer are cached as a latent that is {factor:.1f} times smaller.
{weights}
| | original | converted |
|---|--:|--:|
| KV cache per token | {before:,} bytes | {after:,} bytes |
| parameters | {parameters_before:,} | {parameters_after:,} |
{linears}{quality}
The cache figures are the formula's, and a real cache was measured to agree with them.

{measured}
## What was done

{preset}{calibration} {not_tuned}

{stages}

## Limits

{limits}

## Load

{load}

## Licence

{licence}

## Recipe

```json
{spec}
```

`conversion.json` holds the plan of every layer, the hashes of the original and the package versions.
"""

# what the card of a healed model does not say
NOT_TUNED = "No fine-tuning was done: weights were computed from these statistics."

_LOAD = """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "."  # this folder
# the model's code is modeling_mla.py in this folder: read it, then allow it
tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, dtype="auto")
inputs = tokenizer("The capital of France is", return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=20)[0]))
```"""
_LOAD_SEEING = """```python
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

folder = "."  # this folder
# the model's code is modeling_mla.py in this folder: read it, then allow it
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
model = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=True, dtype="auto")
inputs = processor(images=Image.open("picture.png"), text="<image> This is", return_tensors="pt")
print(processor.decode(model.generate(**inputs, max_new_tokens=20)[0]))
```

Vision tower and projector are the original's, byte for byte."""
_BLIND = " The calibration text had no images in it."


def write_card(
    folder: Path, spec: JobSpec, facts: ModelFacts, plan: Plan, metrics: Mapping[str, float]
) -> None:
    """Write README.md into `folder`; quality rows appear only when they were measured."""
    is_local = facts.kind == "folder"
    title = Path(facts.folder).name if facts.kind != "hub" else facts.name
    licence = licence_of(facts)
    # a local folder has no public name, and paths are nobody's business
    public = _without_paths(spec.model_copy(update={"model": title}))
    card = _TEMPLATE.format(
        base_line="" if facts.kind != "hub" else f"base_model: {facts.name}\n",
        licence_line=licence.front_matter,
        title=title,
        base=f"`{title}`" + ("" if is_local or not facts.revision else f" at `{facts.revision[:12]}`"),
        factor=plan.factor,
        before=plan.kv_bytes_per_token_before,
        after=plan.kv_bytes_per_token_after,
        parameters_before=plan.parameters_before,
        parameters_after=plan.parameters_after,
        weights=_weights(spec),
        linears=_linears(plan, facts, spec.calibration.context),
        quality=quality_rows(metrics),
        measured=quality_words(public, metrics),
        preset=_preset(spec),
        calibration=_calibration(public, metrics),
        not_tuned=NOT_TUNED,
        stages=stage_table(spec),
        limits=limits(public, plan, "perplexity" in metrics),
        load=_load(facts, metrics),
        licence=licence.sentences,
        spec=public.model_dump_json(indent=2),
    )
    (folder / "README.md").write_text(card, encoding="utf-8")


def _weights(spec: JobSpec) -> str:
    """The other budget and its paper, when there was one."""
    if spec.weights_keep is None:
        return ""
    cache = "the widths of the cache" if spec.keep is None else f"{100 * spec.keep:g} % of the cache"
    return (
        f"\nIt was made under two budgets: {cache}, and {100 * spec.weights_keep:g} % of the parameters of\n"
        "the decoder's linear layers, which were factored as in LatentLLM (arXiv 2505.18413).\n"
    )


def _linears(plan: Plan, facts: ModelFacts, context: int) -> str:
    if not plan.linears_before:
        return ""
    before, after = decode_flops(facts, plan, context)
    return (
        f"| of them in linear layers of the decoder | {plan.linears_before:,} | {plan.linears_after:,} |\n"
        f"| FLOPs of a token with {context:,} cached ones, calculated | {before:,} | {after:,} |\n"
    )


def _load(facts: ModelFacts, metrics: Mapping[str, float]) -> str:
    """How to load it, with an image where the model takes some."""
    family = find_architecture(facts.model_type)
    if family is None or not family.sees_images:
        return _LOAD
    return _LOAD_SEEING + ("" if "calibration_images" in metrics else _BLIND)


def _preset(spec: JobSpec) -> str:
    found = PRESETS.get(spec.preset or "")
    if found is None or found.recipe != spec.recipe:
        return ""
    return f"Preset `{found.name}`: {found.paper}. "


def _calibration(spec: JobSpec, metrics: Mapping[str, float]) -> str:
    read = spec.calibration
    images = ""
    if "calibration_images" in metrics:
        images = (
            f" with {metrics['calibration_images']:,.0f} images, whose "
            f"{metrics['calibration_image_tokens']:,.0f} tokens count {read.image_weight:g} times "
            "one of text,"
        )
    backwards = f", {read.fisher_tokens:,} of them with gradients" if spec.needs_fisher else ""
    return (
        f"Calibrated on {read.tokens:,} tokens of {read.text}{images} in windows of {read.context}"
        f"{backwards}, seed {read.seed}."
    )


def quality_rows(metrics: Mapping[str, float]) -> str:
    """The row of the table on quality; none when it was not measured."""
    if "perplexity" not in metrics:
        return ""
    return f"| perplexity | {metrics['perplexity_base']:.2f} | {metrics['perplexity']:.2f} |\n"


def quality_words(spec: JobSpec, metrics: Mapping[str, float]) -> str:
    """What was measured on which sample, as in every evaluation (core/further/markdown.py)."""
    row = own_row("this model", spec.evaluation, metrics)
    if row is None or spec.evaluation is None:
        return "The quality was not measured.\n"
    held_out = spec.evaluation
    said = (
        f"Quality was measured on {row['tokens']:,} tokens of {named_text(held_out.text)}, in "
        f"{held_out.windows} windows of {held_out.context} tokens, original and converted on the same "
        f"ones.\n\n{texts_table([row | {'text': named_text(held_out.text)}])}"
    )
    if row["paired"] is None:
        return said
    return said + (
        "\nIn brackets are 95 % intervals (Student's t over the windows of this text). That both models are "
        f"equally good\nthere has p = {metrics['p_value']:.2g} (paired test by flipped signs of the windows' "
        "differences).\n"
    )


def _without_paths(spec: JobSpec) -> JobSpec:
    """The texts by the names of their files."""
    calibration = spec.calibration.model_copy(update={"text": named_text(spec.calibration.text)})
    evaluation = spec.evaluation
    if evaluation is not None:
        evaluation = evaluation.model_copy(update={"text": named_text(evaluation.text)})
    return spec.model_copy(update={"calibration": calibration, "evaluation": evaluation})


def named_text(text: str) -> str:
    """A text without the folders it lies in."""
    return "+".join(Path(part).name for part in text_parts(text))
