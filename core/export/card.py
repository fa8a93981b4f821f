# SPDX-License-Identifier: Apache-2.0
"""The model card of an export."""

from collections.abc import Mapping
from pathlib import Path

from core.facts import ModelFacts
from core.planning import Plan
from core.spec import JobSpec

_TEMPLATE = """---
library_name: transformers
pipeline_tag: text-generation
{base_line}tags:
- mla
- kv-cache
- mha2mla
---

# {title}, {factor:.1f}x smaller KV cache

Multi-head Latent Attention version of {base}, made by mla-workbench with the MHA2MLA conversion
(arXiv 2502.14837). No fine-tuning was done.

| | original | converted |
|---|--:|--:|
| KV cache per token | {before:,} bytes | {after:,} bytes |
| parameters | {parameters_before:,} | {parameters_after:,} |
{quality}
The cache figures are the formula's, and a real cache was measured to agree with them.
{layout}
## Load

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "."  # this folder
# the model's code is modeling_mla.py in this folder: read it, then allow it
tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, dtype="auto")
inputs = tokenizer("The capital of France is", return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=20)[0]))
```

## Recipe

```json
{spec}
```

`conversion.json` holds the plan of every layer, the hashes of the original and the package versions.
"""


def write_card(
    folder: Path, spec: JobSpec, facts: ModelFacts, plan: Plan, metrics: Mapping[str, float]
) -> None:
    """Write README.md into `folder`; quality rows appear only when they were measured."""
    is_local = facts.kind == "folder"
    title = Path(facts.folder).name if facts.kind != "hub" else facts.name
    card = _TEMPLATE.format(
        # a local folder has no public name, and its path is nobody's business
        base_line="" if facts.kind != "hub" else f"base_model: {facts.name}\n",
        title=title,
        base=f"`{title}`" + ("" if is_local or not facts.revision else f" at `{facts.revision[:12]}`"),
        factor=plan.factor,
        before=plan.kv_bytes_per_token_before,
        after=plan.kv_bytes_per_token_after,
        parameters_before=plan.parameters_before,
        parameters_after=plan.parameters_after,
        quality=_quality(spec, metrics),
        layout=_layout(plan),
        spec=spec.model_copy(update={"model": title}).model_dump_json(indent=2),
    )
    (folder / "README.md").write_text(card, encoding="utf-8")


def _layout(plan: Plan) -> str:
    rebuilt = sum(layer.layout == "pre-rope" for layer in plan.layers)
    if not rebuilt:
        return ""
    return (
        f"\n{rebuilt} of {len(plan.layers)} layers cache one latent from before the rotation (pre-rope): "
        "positions\nstay exact, and keys are rebuilt when they are read, which takes time at long contexts.\n"
    )


def _quality(spec: JobSpec, metrics: Mapping[str, float]) -> str:
    if "perplexity" not in metrics or spec.evaluation is None:
        return ""
    return (
        f"| perplexity ({int(metrics['evaluation_tokens']):,} tokens of {Path(spec.evaluation.text).name}, "
        f"context {spec.evaluation.context}) | {metrics['perplexity_base']:.2f} | "
        f"{metrics['perplexity']:.2f} |\n"
        f"| KL divergence to the original | 0 | {metrics['kl_to_base']:.3f} nats |\n"
        f"| same most likely token | 100 % | {100 * metrics['top1_agreement']:.1f} % |\n"
    )
