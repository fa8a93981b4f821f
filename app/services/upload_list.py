# SPDX-License-Identifier: Apache-2.0
"""The uploaded texts as a user sees them: with their tokens, and free to be deleted or not."""

from pathlib import Path

from app.services import uploads
from app.services.text_names import texts_of
from app.services.uploads import UploadedText
from app.services.workbench import Workbench
from core.errors import WorkbenchError
from core.store.views import FINAL, State

_WAITING = [state for state in State if state not in FINAL]


def uploaded_for(workbench: Workbench, model: str) -> list[UploadedText]:
    """Uploads, newest first, with their tokens when the tokenizer of `model` can be read."""
    texts = uploads.uploaded(workbench.settings)
    folder = _folder_of(workbench, model) if texts and model else None
    return [_counted(workbench, text, folder) for text in texts]


def _folder_of(workbench: Workbench, model: str) -> Path | None:
    try:
        return Path(workbench.facts.read(model, None, workbench.settings).folder)
    except WorkbenchError:
        # what is wrong with the model is said beside the model
        return None


def _counted(workbench: Workbench, text: UploadedText, folder: Path | None) -> UploadedText:
    path = uploads.path_of(workbench.settings, text)
    found = workbench.tokens.count(folder, path) if folder and path.is_file() else None
    if found is None:
        return text
    return text.model_copy(
        update={"tokens": found.tokens, "tokens_are": "counted" if found.is_exact else "estimated"}
    )


def remove(workbench: Workbench, name: str) -> None:
    """Forget an upload; raises NotFoundError, or StateError while a job that has not ended needs it."""
    count = workbench.store.count(states=_WAITING)
    waiting = workbench.store.list(states=_WAITING, limit=max(1, count))
    in_use = {text for job in waiting for text in texts_of(job.spec)}
    uploads.remove(workbench.settings, name, in_use)
