# SPDX-License-Identifier: Apache-2.0
"""From what a user typed to a folder on disk: local, a Hub snapshot pinned to a commit, or the demo."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from core.errors import ModelError
from core.settings import Settings
from core.weights.index import TensorInfo, dtype_name, is_weight, read_index, weight_files

DEMO = "demo"
DEMO_FOLDER = "SmolLM2-135M-Instruct"
# huggingface_hub allows these in "owner/name" and in legacy single names
_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")
_SMALL_FILES = ["*.json", "*.jinja", "*.model", "*.txt", "LICENSE*", "README.md"]


@dataclass(frozen=True)
class Located:
    """A model on this machine. `revision` is the commit of a Hub snapshot, None for a folder."""

    name: str
    kind: Literal["folder", "hub", "demo"]
    folder: Path
    revision: str | None = None


def locate(
    model: str, *, revision: str | None = None, weights: bool = True, settings: Settings | None = None
) -> Located:
    """Find `model`, downloading what is missing; `weights=False` fetches config, index and headers only.

    Raises ModelError when it is neither a folder nor on the Hub (or the Hub cannot be reached).
    """
    settings = settings or Settings()
    if model == DEMO:
        folder = settings.models_dir / DEMO_FOLDER
        if not (folder / "model.safetensors").is_file():
            raise ModelError(
                "the demo model is not prepared yet",
                hint="run 'mla-workbench demo' once (about 20 s); 'make run' does it for you",
                field="model",
            )
        return Located(DEMO, "demo", folder)
    local = _local_folder(model)
    if local is not None:
        return Located(str(local), "folder", local)
    if not _HUB_ID.match(model):
        raise _nowhere(model)
    return _locate_on_hub(model, revision, weights)


def _local_folder(model: str) -> Path | None:
    try:
        path = Path(model).expanduser()
        return path.absolute() if model and path.is_dir() else None
    except (OSError, RuntimeError, ValueError):  # a name the system cannot have, the home of nobody
        return None


def _nowhere(model: str) -> ModelError:
    return ModelError(
        f"there is no folder '{model[:200]}'",
        hint="give a local folder, a Hub id such as HuggingFaceTB/SmolLM2-135M, or demo",
        field="model",
    )


def _locate_on_hub(model: str, revision: str | None, weights: bool) -> Located:
    from huggingface_hub import constants, errors, snapshot_download

    patterns = [*_SMALL_FILES, "*.safetensors"] if weights else _SMALL_FILES
    try:
        folder = Path(snapshot_download(model, revision=revision, allow_patterns=patterns))
    except errors.HFValidationError as error:
        raise _nowhere(model) from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        hint = "unset HF_HUB_OFFLINE" if constants.HF_HUB_OFFLINE else "check the network"
        raise ModelError(
            f"{model} is not in the local Hub cache and the Hub cannot be reached",
            hint=f"{hint}, or give a local folder",
            field="model",
        ) from error
    except errors.GatedRepoError as error:
        raise ModelError(
            f"{model} is gated", hint="accept its licence on the Hub and set HF_TOKEN", field="model"
        ) from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise ModelError(
            f"the Hub does not give out {model}" + (f" at {revision}" if revision else ""),
            hint="check the id and the revision; private models need HF_TOKEN",
            field="model",
        ) from error
    except _transport_errors() as error:
        raise ModelError(
            f"fetching {model} failed: {error}",
            hint="try again, what has arrived is kept; or give a local folder",
            field="model",
        ) from error
    # a snapshot's folder is named by its commit, which is what pins the result
    return Located(model, "hub", folder, folder.name)


def _transport_errors() -> tuple[type[Exception], ...]:
    from huggingface_hub import errors

    # of httpx or httpx2, whichever this huggingface_hub is built on
    return errors.HTTPError, OSError  # type: ignore[attr-defined]


def _has_all_weights(snapshot: Path) -> bool:
    """Whether the download of a snapshot's weights was finished; it is continued when they are needed."""
    try:
        return bool(weight_files(snapshot))
    except ModelError:
        return False


def tensors_of(located: Located) -> dict[str, TensorInfo]:
    """The checkpoint's tensors from headers on disk, or over HTTP when a Hub model's weights are not here."""
    if located.kind != "hub" or _has_all_weights(located.folder):
        return read_index(located.folder)
    from huggingface_hub import errors, get_safetensors_metadata

    try:
        files = get_safetensors_metadata(located.name, revision=located.revision).files_metadata
    except (errors.NotASafetensorsRepoError, errors.SafetensorsParsingError) as error:
        raise ModelError(
            f"{located.name} is not stored as safetensors",
            hint="pickle files can run code when they are opened: look for a safetensors revision",
            field="model",
        ) from error
    except _transport_errors() as error:
        raise ModelError(
            f"the weights of {located.name} are not here and the Hub cannot be reached",
            hint="check the network, or give a local folder",
            field="model",
        ) from error
    return {
        name: TensorInfo(name, dtype_name(info.dtype), tuple(info.shape), located.folder / file)
        for file, metadata in files.items()
        for name, info in metadata.tensors.items()
        if is_weight(name)
    }
