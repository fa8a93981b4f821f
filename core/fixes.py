# SPDX-License-Identifier: Apache-2.0
"""Changes of a request that may help after a failure: data, so that a button can apply them."""

from typing import Any

from pydantic import Field

from core.spec import Frozen, Healing, JobSpec, parse_spec

_SMALL_SHARD = 1_000_000_000
# half of what a window took was enough, or it was not the windows
_FEWEST_TOKENS, _SHORTEST_CONTEXT = 4096, 128


class Fix(Frozen):
    """One change, as a button says it and as the spec takes it."""

    label: str = Field(description='what a button says, e.g. "windows of 256 tokens"')
    changes: dict[str, Any] = Field(description="fields of JobSpec; those of a part inside a dict of its own")


def apply(spec: JobSpec, fix: Fix) -> JobSpec:
    """`spec` with the change; raises SpecError when both do not fit together."""
    said = spec.model_dump(mode="json")
    for name, value in fix.changes.items():
        part = said.get(name)
        said[name] = part | value if isinstance(part, dict) and isinstance(value, dict) else value
    return parse_spec(said)


def less_memory(spec: JobSpec) -> tuple[Fix, ...]:
    """What takes less memory of the machine, the least harmful first."""
    if spec.heal is not None:
        return _less_to_learn(spec.heal)
    found = []
    calibration = spec.calibration
    if calibration.context // 2 >= _SHORTEST_CONTEXT:
        half = calibration.context // 2
        found.append(Fix(label=f"windows of {half:,} tokens", changes={"calibration": {"context": half}}))
    if calibration.tokens // 2 >= _FEWEST_TOKENS:
        half = calibration.tokens // 2
        label = f"{half:,} calibration tokens"
        found.append(Fix(label=label, changes={"calibration": {"tokens": half}}))
    if spec.shard_bytes > _SMALL_SHARD:
        found.append(Fix(label="weight files of 1 GB", changes={"shard_bytes": _SMALL_SHARD}))
    return tuple(found)


def _less_to_learn(healing: Healing) -> tuple[Fix, ...]:
    """Of a healing: the same steps in smaller parts, then fewer weights that learn."""
    found = []
    if not healing.checkpoint_activations:
        changes: dict[str, Any] = {"checkpoint_activations": True}
        found.append(Fix(label="activations computed again", changes={"heal": changes}))
    if healing.windows > 1 and healing.windows % 2 == 0:
        half = healing.windows // 2
        changes = {"windows": half, "accumulate": 2 * healing.accumulate}
        found.append(Fix(label=f"{half:,} windows at a time", changes={"heal": changes}))
    if healing.trainable != "lora":
        found.append(Fix(label="adapters (LoRA)", changes={"heal": {"trainable": "lora"}}))
    return tuple(found)


def less_device_memory(spec: JobSpec) -> tuple[Fix, ...]:
    """What takes less memory of a GPU, or none."""
    on_cpu = Fix(label="on the CPU", changes={"device": "cpu"})
    return (on_cpu, *less_memory(spec))[:3]
