# SPDX-License-Identifier: Apache-2.0
"""Everything about an evaluation job that can be refused before a weight is read."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
import transformers
from torch import Tensor

from core.calibrate.text import read_text
from core.calibrate.tokens import tokenize
from core.chat.naming import JOB, folder_of
from core.devices import choose_device
from core.errors import ModelError, OutputError, SpecError, TextError
from core.evaluate import check_context, cut_windows, is_converted
from core.evaluate.harness import check_harness, tasks_of
from core.evaluate.retrieval import MAKERS, make_questions
from core.export.record import sha256_of
from core.further.pieces import Piece, pieces_of
from core.further.spec import Measurements
from core.model_config import read_config
from core.preflight import check_output
from core.settings import Settings
from core.spec import JobSpec
from core.weights.index import read_index, weight_files
from core.weights.locate import locate
from core.weights.tokenizer import load_tokenizer
from core.workspace import Workspace

_FLOAT32 = 4
_RESULT_BYTES = 20_000_000
# raised whenever the same request would find other figures, so that old pieces are not kept
_VERSION = 1


@dataclass(frozen=True)
class Ready:
    """An evaluation that may start. folders: by model, the original first; texts: token ids (n,) by name."""

    asked: Measurements
    base: str
    folders: Mapping[str, Path]
    texts: Mapping[str, Tensor]
    pieces: tuple[Piece, ...]
    device: torch.device
    fingerprint: str

    @property
    def conversions(self) -> tuple[str, ...]:
        return tuple(one for one in self.folders if one != self.base)


def prepare_evaluation(spec: JobSpec, workspace: Workspace, settings: Settings) -> Ready:
    """Check models, texts, contexts, memory and disk; raises the WorkbenchError that names the fix."""
    asked = spec.evaluate
    if asked is None:
        raise SpecError(
            "an evaluation job says what to measure", hint="give `evaluate` its texts", field="evaluate"
        )
    if workspace.result.exists():
        raise OutputError(f"'{workspace.result}' exists already", hint="remove it", field="out")
    base = locate(spec.model, revision=spec.revision, settings=settings).folder
    folders = _folders(asked, spec.model, base, settings)
    for folder in folders.values():
        contexts = (*asked.contexts,) if asked.texts else ()
        for context in (*contexts, *(asked.retrieval_contexts if asked.retrieval else ())):
            check_context(folder, context)
    texts = _texts(asked, base)
    _check_questions(asked, base)
    device = choose_device(spec.device)
    _check_memory(folders, base, device)
    check_output(workspace, _RESULT_BYTES)
    harness = tasks_of(asked.harness)
    if harness:
        check_harness(harness, Path(asked.harness_folder) if asked.harness_folder else None)
    pieces = pieces_of(asked, spec.model, [one for one in folders if one != spec.model], harness)
    return Ready(
        asked, spec.model, folders, texts, tuple(pieces), device, _fingerprint(asked, folders, texts, device)
    )


def _folders(asked: Measurements, name: str, base: Path, settings: Settings) -> dict[str, Path]:
    vocabulary = _vocabulary(base)
    found = {name: base}
    for one in asked.conversions:
        folder = folder_of(one, settings) if one.startswith(JOB) else Path(one).expanduser()
        if not is_converted(folder):
            raise ModelError(
                f"'{one}' is no converted model",
                hint="name folders this workbench wrote, or job:ID of finished conversions",
                field="evaluate.conversions",
            )
        if _vocabulary(folder) != vocabulary:
            raise ModelError(
                f"'{one}' was not made from '{name}': their vocabularies differ",
                hint="name the original that it was converted from as the model",
                field="model",
            )
        found[one] = folder
    return found


def _vocabulary(folder: Path) -> int:
    said = read_config(folder)
    said = said.get("base_config") or said
    return int((said.get("text_config") or said).get("vocab_size") or 0)


def _texts(asked: Measurements, base: Path) -> dict[str, Tensor]:
    found = {}
    for name in asked.texts if asked.contexts else ():
        found[name] = tokenize(base, read_text(name))
        for context in asked.contexts:
            try:
                cut_windows(found[name], context, asked.windows)
            except TextError as error:
                raise TextError(
                    f"{name}: {error.message}", hint=error.hint, field="evaluate.texts"
                ) from error
    return found


def _check_questions(asked: Measurements, base: Path) -> None:
    """One question of each kind is made: it may not fit, or the essay may be too short."""
    if not asked.retrieval:
        return
    tokenizer, essay = load_tokenizer(base), read_text(asked.essay)
    for task in asked.retrieval:
        for context in asked.retrieval_contexts:
            make_questions(task, tokenizer, context, 1, asked.seed, essay)


def _check_memory(folders: Mapping[str, Path], base: Path, device: torch.device) -> None:
    """The original and one conversion are held at once, in float32 on a CPU."""
    models = 2 if len(folders) > 1 else 1
    needed = models * _FLOAT32 * sum(info.numbers for info in read_index(base).values())
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    if needed > 0.9 * free:
        raise ModelError(
            f"measuring needs {needed / 1e9:.0f} GB of memory, {free / 1e9:.0f} GB are free",
            hint="close other programs, or use a machine with more memory",
            field="model",
        )


def _fingerprint(
    asked: Measurements, folders: Mapping[str, Path], texts: Mapping[str, Tensor], device: torch.device
) -> str:
    """Everything the figures depend on."""
    weights = {
        name: [sha256_of(file) for file in sorted(weight_files(folder))] for name, folder in folders.items()
    }
    tokens = {
        name: hashlib.sha256(ids.contiguous().numpy().tobytes()).hexdigest() for name, ids in texts.items()
    }
    essay = read_text(asked.essay) if asked.retrieval else ""
    programs = [_VERSION, torch.__version__, transformers.__version__, device.type, sorted(MAKERS)]
    parts = [
        programs,
        asked.model_dump(mode="json"),
        weights,
        tokens,
        hashlib.sha256(essay.encode()).hexdigest(),
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
