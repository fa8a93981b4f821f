# SPDX-License-Identifier: Apache-2.0
"""Everything that can be refused before anything heavy starts."""

import hashlib
import json
import math
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
import transformers
from torch import Tensor

from core.arch import Architecture, find_architecture
from core.calibrate.picture_ids import is_picture
from core.calibrate.picture_windows import Picture, shown_in
from core.calibrate.pictures import check_calibration
from core.calibrate.states import state_bytes
from core.calibrate.steps import Sample
from core.calibrate.text import check_text, read_text, text_parts
from core.calibrate.tokens import tokenize, windows_of
from core.devices import choose_device
from core.errors import ModelError, OutputError, TextError
from core.evaluate import cut_windows
from core.export.record import sha256_of
from core.facts import ModelFacts, read_facts
from core.kv_budget import DTYPE_BYTES
from core.planning import Plan, make_plan
from core.quota import check_room
from core.refit import refit_windows
from core.settings import Settings
from core.spec import JobSpec
from core.weights.index import current_names, read_index, weight_files
from core.weights.locate import locate
from core.weights.skeleton import check_weights
from core.workspace import Workspace

# raised whenever the bytes written for the same spec change, so that old partial work is not continued
ENGINE_VERSION = 3
# raised whenever the statistics of the same text change, so that old profiles are not read
STATISTICS_VERSION = 1
# windows of the calibration text that allocations are compared on: candidates differ by a tenth and more
HELD_BACK = 2
# and that a profile measures its predictions on, where the text is long enough
HELD_BACK_BY_PROFILE = 4


@dataclass(frozen=True)
class Prepared:
    """A conversion that may start.

    held_back: token ids (n, context) of the calibration text that calibration does not see; allocations are
    compared on them. refit: the calibration windows that W_O is fitted anew on, none when the recipe does
    not. pictures: the images of all these windows, those that calibration sees first. base_files maps weight
    file names to their sha256. A profile with the same statistics_fingerprint has the statistics that
    calibration would find.
    """

    facts: ModelFacts
    family: Architecture
    plan: Plan
    device: torch.device
    sample: Sample
    held_back: Tensor
    refit: Tensor
    pictures: tuple[Picture, ...]
    base_files: dict[str, str]
    fingerprint: str
    statistics_fingerprint: str

    @property
    def calibrated_on(self) -> tuple[int, int]:
        """(images, tokens of images) that calibration sees; one that a window cuts is seen again."""
        windows = self.sample.windows
        return len(shown_in(windows, self.pictures)), int(is_picture(windows).sum())


def prepare(spec: JobSpec, workspace: Workspace, settings: Settings) -> Prepared:
    """Check model, plan, texts, device and disk; raises the WorkbenchError that names the fix."""
    if workspace.result.exists():
        raise OutputError(
            f"'{workspace.result}' exists already",
            hint="choose another output folder or remove it",
            field="out",
        )
    device = choose_device(spec.device)
    for name in text_parts(spec.calibration.text):
        check_calibration(name)
    if spec.evaluation is not None:
        check_text(spec.evaluation.text)
    facts = read_facts(spec.model, revision=spec.revision, settings=settings)
    facts.raise_if_unsupported()
    plan = make_plan(spec, facts)
    plan.raise_if_blocked()
    check_memory(plan)
    # only now are the weights of a Hub model fetched
    facts = facts.model_copy(
        update={"folder": str(locate(spec.model, revision=facts.revision, settings=settings).folder)}
    )
    folder, family = Path(facts.folder), find_architecture(facts.model_type)
    if family is None:
        raise ModelError(f"models of type '{facts.model_type}' cannot be converted yet", field="model")
    check_weights(folder, family, current_names(read_index(folder), family))
    sample, held_back, pictures = _sample(spec, folder, facts)
    check_evaluation(spec, folder)
    refit = refit_windows(sample.windows, spec.calibration.refit_tokens if spec.recipe.refit_output else 0)
    needed = _needed_bytes(sample, refit, facts, plan, sum(one.tokens for one in pictures))
    check_output(workspace, needed)
    check_room(settings, [workspace.work], needed)
    files = {file.name: sha256_of(file) for file in weight_files(folder)}
    seen = _seen_files(folder, pictures)
    fingerprint = _fingerprint(spec, folder, torch.cat([sample.windows, held_back]), device, files, seen)
    seen = _seen_files(folder, shown_in(sample.windows, pictures))
    own = _statistics_fingerprint(folder, sample, device, files, seen)
    return Prepared(facts, family, plan, device, sample, held_back, refit, pictures, files, fingerprint, own)


def check_memory(plan: Plan) -> None:
    """Raise ModelError when the converted model is larger than this machine's memory.

    Converting holds one layer, but in the end the whole model is loaded once, in its stored dtype.
    """
    needed = plan.parameters_after * DTYPE_BYTES[plan.dtype]
    present = psutil.virtual_memory().total
    if needed > present:
        raise ModelError(
            f"the converted model takes {needed / 1e9:,.1f} GB, this machine has {present / 1e9:,.1f} GB",
            hint="loading it to verify it needs that much memory: use a larger machine or a smaller dtype",
            field="model",
        )


def _sample(spec: JobSpec, folder: Path, facts: ModelFacts) -> tuple[Sample, Tensor, tuple[Picture, ...]]:
    """The calibration windows, how many of them go through the backward pass, what is held back, the images.

    Windows are held back behind those asked for, or from their end when the text is too short; a choice
    between allocations needs at least one. Raises TextError when there is only one window.
    """
    asked = spec.calibration
    most = HELD_BACK_BY_PROFILE if spec.kind == "profile" else HELD_BACK
    compared = most if spec.allocates or spec.allocates_weights else 0
    wanted = asked.tokens // asked.context
    tokens = asked.tokens + compared * asked.context
    windows, pictures = windows_of(folder, asked.text, tokens, asked.context, asked.window_seed)
    if compared and len(windows) < 2:
        raise TextError(
            "allocations are compared on held-back text, and the text fills one window",
            hint="give a longer text, a smaller calibration context, or allocate (linear_allocate) uniform",
            field="calibration.text",
        )
    # of a short text a profile holds back what a conversion does: it is found by the windows that are left
    short = max(1, min(HELD_BACK, len(windows) // 8))
    held = min(compared, max(len(windows) - wanted, short)) if compared else 0
    used = windows[: len(windows) - held][:wanted]
    fisher = min(asked.fisher_tokens, used.numel()) if spec.needs_fisher else 0
    sample = Sample(
        used,
        math.ceil(fisher / asked.context),
        asked.seed,
        derotation=spec.recipe.needs_derotation and facts.rotary_dim > 0,
        linears=spec.weights_keep is not None,
        image_weight=asked.image_weight,
    )
    return sample, windows[len(windows) - held :], pictures


def check_evaluation(spec: JobSpec, folder: Path) -> None:
    """Raise TextError when the evaluation text is too short for its windows."""
    if spec.evaluation is not None:
        tokens = tokenize(folder, read_text(spec.evaluation.text))
        cut_windows(tokens, spec.evaluation.context, spec.evaluation.windows)


def check_output(workspace: Workspace, needed: int) -> None:
    """Raise OutputError unless the work folder can be written and its disk has `needed` bytes free."""
    created = next(
        folder
        for folder in (workspace.work, *workspace.work.parents)
        if folder.is_dir() or folder.parent == folder
    )
    try:
        workspace.work.mkdir(parents=True, exist_ok=True)
        probe = workspace.work / ".writable"
        probe.write_bytes(b"x")
        probe.unlink()
        free = shutil.disk_usage(workspace.work).free + _used(workspace.work)
    except OSError as error:
        remove_empty(workspace.work, created)
        raise OutputError(
            f"'{workspace.work.parent}' cannot be written: {error.strerror}",
            hint="choose another output folder",
            field="out",
        ) from error
    if free < needed:
        remove_empty(workspace.work, created)
        raise OutputError(
            f"the disk has {free / 1e6:,.0f} MB free, the conversion needs {needed / 1e6:,.0f} MB",
            hint="free some space or choose another output folder",
            field="out",
        )


def remove_empty(folder: Path, stop: Path) -> None:
    """Remove `folder` and its parents below `stop` as long as they are empty."""
    while folder != stop and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def _used(folder: Path) -> int:
    return sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if file.is_file())


def _needed_bytes(sample: Sample, refit: Tensor, facts: ModelFacts, plan: Plan, rows: int) -> int:
    """Weights, the statistics, and the states between layers that are on the disk at the same time.

    rows: tokens of images, whose hidden states stay to the end.
    """
    weights = max(facts.weight_bytes, plan.parameters_after * DTYPE_BYTES[plan.dtype])
    (windows, context), width = sample.windows.shape, facts.hidden_size
    whole, kept = (state_bytes((count, context, width)) for count in (windows, sample.fisher_windows))
    # two whole states while a layer runs, and the first windows of all others; later two gradients, when the
    # last whole one is cut
    states = 2 * whole + (facts.layers - 1) * kept if kept else 2 * whole
    inputs = facts.latent_inputs
    numbers = inputs**2 + 2 * inputs + facts.heads * context
    if sample.linears:
        heads, inner = facts.heads * facts.head_dim, facts.mlp_size
        numbers += sum(size**2 + 2 * size for size in (width, heads, width, inner))
    if kept:
        keys_and_values = facts.kv_numbers_per_layer
        numbers += 2 * inputs**2 + 2 * inputs + keys_and_values**2 + facts.heads * facts.head_dim
        states = max(states, (facts.layers + 2) * kept)
    # around the layer that is refitted there are three states, after calibration has removed its own
    states = max(states, 3 * state_bytes((*refit.shape, width))) + state_bytes((rows, 1, width))
    return weights + states + facts.layers * numbers * 8 + 20_000_000


def _fingerprint(
    spec: JobSpec, folder: Path, windows: Tensor, device: torch.device, files: dict[str, str], seen: list[str]
) -> str:
    """Everything the written bytes depend on; the windows stand for calibration text and tokenizer.

    seen: what stands for the images, see `_seen_files`.
    """
    tokens = hashlib.sha256(windows.contiguous().numpy().tobytes()).hexdigest()
    config = sha256_of(folder / "config.json")
    programs = [ENGINE_VERSION, torch.__version__, transformers.__version__, os.name, device.type]
    relevant = spec.model_dump(
        mode="json", exclude={"model", "revision", "preset", "evaluation", "evaluate", "device"}
    )
    parts = [programs, relevant, list(windows.shape), tokens, config, sorted(files.items()), *seen]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _seen_files(folder: Path, pictures: tuple[Picture, ...]) -> list[str]:
    """Hashes of the images, and of the files that say how they are resized; nothing without images."""
    if not pictures:
        return []
    said = (folder / name for name in ("processor_config.json", "preprocessor_config.json"))
    return [one.sha256 for one in pictures] + [sha256_of(file) for file in said if file.is_file()]


def _statistics_fingerprint(
    folder: Path, sample: Sample, device: torch.device, files: dict[str, str], seen: list[str]
) -> str:
    """Everything the statistics of the forward pass depend on; a profile is found by it."""
    windows = sample.windows
    tokens = hashlib.sha256(windows.contiguous().numpy().tobytes()).hexdigest()
    programs = [STATISTICS_VERSION, torch.__version__, transformers.__version__, device.type]
    config = sha256_of(folder / "config.json")
    parts = [programs, list(windows.shape), tokens, sample.seed, config, sorted(files.items())]
    # what a budget of weights looks at takes as much time again, so a profile does not have it
    parts += ["linears"] if sample.linears else []
    # without images a weight of them changes nothing
    parts += ["pictures", sample.image_weight, seen] if seen else []
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
