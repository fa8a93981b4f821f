# SPDX-License-Identifier: Apache-2.0
"""Everything about a healing that can be refused before anything heavy starts."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from core.arch import Architecture, find_architecture
from core.calibrate.text import check_text
from core.devices import choose_device
from core.errors import ModelError, OutputError, SpecError
from core.evaluate import is_converted
from core.export.record import sha256_of
from core.heal.cache import TeacherCache, cache_fingerprint
from core.heal.documents import check_source
from core.heal.export import check_names
from core.heal.mix import read_mix
from core.heal.needs import Sizes, check_memory, disk_bytes, sizes_of
from core.heal.precision import chosen_dtype
from core.heal.record import read_record
from core.heal.spec import Healing
from core.heal.windows import Windows, make_windows
from core.model_config import model_type_of, read_config
from core.modeling import MLAConfig
from core.preflight import check_evaluation, check_output
from core.quota import check_room
from core.settings import Settings
from core.spec import JobSpec
from core.weights.index import weight_files
from core.weights.locate import locate
from core.weights.tokenizer import load_tokenizer
from core.workspace import Workspace

# raised whenever the weights learned from the same spec change, so that old partial work is not continued
HEALING_VERSION = 1


@dataclass(frozen=True)
class Ready:
    """A healing that may start. `dtype` is that of products; teacher_files maps names to their sha256."""

    healing: Healing
    steps: int
    source: Path
    teacher: Path
    family: Architecture | None
    device: torch.device
    dtype: torch.dtype
    sizes: Sizes
    record: dict[str, Any]
    teacher_files: dict[str, str]
    windows: Windows
    cache: TeacherCache | None
    fingerprint: str


def prepare_healing(spec: JobSpec, workspace: Workspace, settings: Settings, processes: int = 1) -> Ready:
    """Check models, texts, memory and disk; raises the WorkbenchError that names the fix."""
    healing = _asked(spec, workspace)
    steps = _steps(healing, processes)
    device = choose_device(spec.device)
    source = converted_folder(healing.source)
    record = read_record(source)
    for one in read_mix(healing.text):
        check_source(one, healing.text_field)
    if spec.evaluation is not None:
        check_text(spec.evaluation.text)
    teacher = locate(spec.model, revision=spec.revision, settings=settings).folder
    config = MLAConfig.from_pretrained(source, local_files_only=True)
    _check_teacher(teacher, source, config, healing)
    sizes = sizes_of(config, healing)
    check_names(source, set(sizes.names))
    check_memory(healing, config, sizes, teacher, device)
    check_evaluation(spec, teacher)
    windows = make_windows(healing, source, steps, healing.windows * healing.accumulate * processes)
    files = {file.name: sha256_of(file) for file in weight_files(teacher)}
    dtype = chosen_dtype(healing.precision, device)
    cache = _cache(healing, dtype, teacher, files, settings)
    missing = len(cache.missing(windows.all)) if cache is not None else 0
    needed = disk_bytes(healing, sizes, source, missing)
    check_output(workspace, needed)
    check_room(settings, [workspace.work], needed)
    fingerprint = _fingerprint(healing, source, files, windows, dtype, device, processes)
    family = find_architecture(model_type_of(read_config(teacher)))
    return Ready(
        healing,
        steps,
        source,
        teacher,
        family,
        device,
        dtype,
        sizes,
        record,
        files,
        windows,
        cache,
        fingerprint,
    )


def _cache(
    healing: Healing, dtype: torch.dtype, teacher: Path, files: dict[str, str], settings: Settings
) -> TeacherCache | None:
    """Where the teacher's words are stored; None when they are not."""
    if not healing.top_k:
        return None
    own = cache_fingerprint(healing, dtype, files | {"config.json": sha256_of(teacher / "config.json")})
    return TeacherCache(settings.teachers_dir / own, healing.context)


def converted_folder(source: str) -> Path:
    """The folder of a converted model; raises ModelError when it is none."""
    folder = Path(source).expanduser().absolute()
    if not folder.is_dir():
        raise ModelError(
            f"there is no folder '{source[:200]}'",
            hint="give the folder of a converted model",
            field="heal.source",
        )
    if not is_converted(folder):
        raise ModelError(
            f"'{folder.name}' is no converted model: there is nothing to heal",
            hint="give a folder that 'mla-workbench convert' wrote",
            field="heal.source",
        )
    return folder


def _asked(spec: JobSpec, workspace: Workspace) -> Healing:
    if spec.heal is None:
        raise SpecError("the request says nothing about healing", hint="set heal", field="heal")
    if workspace.result.exists():
        raise OutputError(
            f"'{workspace.result}' exists already",
            hint="choose another output folder or remove it",
            field="out",
        )
    return spec.heal


def _steps(healing: Healing, processes: int) -> int:
    steps = healing.steps // processes
    if steps < 1:
        raise SpecError(
            f"{healing.tokens} tokens are less than one step of {healing.step_tokens} tokens on each of "
            f"{processes} processes",
            hint="ask for more tokens, or for fewer processes",
            field="heal.tokens",
        )
    return steps


def _check_teacher(teacher: Path, source: Path, config: MLAConfig, healing: Healing) -> None:
    """Raise ModelError unless both speak of the same tokens, and of the same layers where these count."""
    if is_converted(teacher):
        raise ModelError(
            f"the teacher '{teacher.name}' is a converted model itself",
            hint="name the original model",
            field="model",
        )
    said = read_config(teacher)
    text = said.get("text_config", said)
    own = config.get_text_config(decoder=True).vocab_size
    if text.get("vocab_size", own) != own or _vocabulary(teacher) != _vocabulary(source):
        raise ModelError(
            f"the teacher '{teacher.name}' has another vocabulary than '{source.name}'",
            hint="name the model it was converted from, or one with the same tokenizer",
            field="model",
        )
    shape = config.num_hidden_layers, config.hidden_size
    if (healing.hidden_loss or healing.attention_loss) and shape != (
        text.get("num_hidden_layers", text.get("n_layer")),
        text.get("hidden_size", text.get("n_embd")),
    ):
        raise ModelError(
            "losses on hidden states and attention outputs need a teacher with the same layers",
            hint="set hidden_loss and attention_loss to 0, or name the original model",
            field="heal.hidden_loss",
        )


def _vocabulary(folder: Path) -> dict[str, int]:
    found: dict[str, int] = load_tokenizer(folder).get_vocab()
    return found


def _fingerprint(
    healing: Healing,
    source: Path,
    teacher: dict[str, str],
    windows: Windows,
    dtype: torch.dtype,
    device: torch.device,
    processes: int,
) -> str:
    """Everything the learned weights depend on; the windows stand for texts and tokenizer."""
    student = {file.name: sha256_of(file) for file in weight_files(source)}
    tokens = hashlib.sha256(windows.all.contiguous().numpy().tobytes()).hexdigest()
    programs = [
        HEALING_VERSION,
        torch.__version__,
        transformers.__version__,
        device.type,
        str(dtype),
        processes,
    ]
    asked = healing.model_dump(mode="json", exclude={"source", "text", "checkpoint_seconds", "precision"})
    parts = [programs, asked, sorted(student.items()), sorted(teacher.items()), tokens]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
