# SPDX-License-Identifier: Apache-2.0
"""What the boxes of model and texts offer on the New page: found models, the Hub's answer, uploads."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from types import MappingProxyType
from typing import Any

import gradio as gr

from app.services import models, uploads
from app.services.incoming import MEGABYTE, Incoming
from app.services.model_sources import FEWEST_LETTERS, FoundModel
from app.services.upload_list import uploaded_for
from app.services.workbench import Workbench
from app.ui.components.chips import source
from app.ui.components.fields import (
    MODEL_NOTE,
    UPLOAD_NOTE,
    UPLOAD_TEXT,
    Boxes,
    evaluation_choices,
    model_choices,
    text_choices,
    upload_label,
)
from app.ui.components.messages import failure
from app.ui.events import LATEST, QUIET
from app.ui.pages.new_recipe import Answering
from core.errors import WorkbenchError

# keys that move in the list or leave it
_NOT_TYPED = frozenset(
    [
        "Enter",
        "Escape",
        "Tab",
        "ArrowUp",
        "ArrowDown",
        "ArrowLeft",
        "ArrowRight",
        "Shift",
        "Control",
        "Meta",
        "Alt",
        "Home",
        "End",
    ]
)
# the chip beside a number of tokens
COUNTED = {"counted": "measured", "estimated": "estimated"}
# boxes whose choices depend on what there is
OFFERING = ("model", "calibration_text", "evaluation_text")


@dataclass(frozen=True)
class Sources:
    """Handlers of the boxes that name a model or a text."""

    workbench: Workbench

    def offered(self, model: str) -> list[Any]:
        """Choices of model, calibration text and evaluation text, with tokens as `model` counts them."""
        return [self._models(), *self.texts(model)]

    def texts(self, model: str) -> list[Any]:
        """Choices of calibration and evaluation text."""
        texts = uploaded_for(self.workbench, model)
        return [
            gr.Dropdown(choices=text_choices(texts)),
            gr.Dropdown(choices=evaluation_choices(texts)),
        ]

    def search(self, seen: dict[str, FoundModel], event: gr.KeyUpData) -> list[Any]:
        """Models with what was typed in their name, and why the Hub has no part in them.

        What was offered stays: a list that gets shorter while it is open breaks Gradio's box. So `seen` is
        added to in place, for the letters that are being answered at the same time.
        """
        typed = event.input_value.strip()
        if event.key in _NOT_TYPED or len(typed) < FEWEST_LETTERS or not _is_name(typed):
            return [gr.skip(), ""]
        settings = self.workbench.settings
        answer = self.workbench.sources.search(settings, typed)
        seen.update({one.model: one for one in answer.models})
        note = f'<p class="caption">{escape(answer.note)}.</p>' if answer.note else ""
        return [self._models(seen), note]

    def _models(self, seen: Mapping[str, FoundModel] = MappingProxyType({})) -> gr.Dropdown:
        recent = models.recent_models(self.workbench)
        found = {one.model: one for one in self.workbench.sources.local(self.workbench.settings)}
        return gr.Dropdown(choices=model_choices(recent, [*(found | dict(seen)).values()]))

    def upload(self, path: str | None, model: str) -> list[Any]:
        """The text boxes with the upload chosen for calibration, and a line on what it is."""
        if not path:
            return [gr.skip()] * 3
        stored, note = self.stored(path, model)
        if stored is None:
            return [gr.skip(), gr.skip(), note]
        texts = uploaded_for(self.workbench, model)
        return [
            gr.Dropdown(choices=text_choices(texts), value=stored),
            gr.Dropdown(choices=evaluation_choices(texts)),
            note,
        ]

    def stored(self, path: str, model: str) -> tuple[str | None, str]:
        """What a spec calls the upload, None when it is refused, and a line on what it is."""
        try:
            with Incoming(self.workbench.settings) as incoming:
                for chunk in _chunks(Path(path)):
                    incoming.write(chunk)
                name = uploads.name_of_file(path)
                stored = uploads.store(self.workbench.settings, name, incoming, numbered=True)
        except WorkbenchError as error:
            return None, failure(error)
        finally:
            # the copy that Gradio made of it
            Path(path).unlink(missing_ok=True)
        self.workbench.disk.forget()
        texts = uploaded_for(self.workbench, model)
        (found,) = (one for one in texts if one.name == stored.name)
        mark = "" if found.tokens is None else source(COUNTED[found.tokens_are])
        return stored.value, f'<p class="caption" role="status">{escape(upload_label(found))}{mark}</p>'


def attach(sources: Sources, boxes: Boxes, answering: Answering) -> None:
    """Connect the boxes: a typed name searches, another model counts anew, an upload is chosen at once."""
    model, texts = boxes["model"], [boxes["calibration_text"], boxes["evaluation_text"]]
    seen = gr.State({})
    # each letter for itself: of several that wait, "always_last" would send the first one's event
    model.key_up(sources.search, seen, [model, boxes[MODEL_NOTE]], trigger_mode="multiple", **QUIET)
    model.input(sources.texts, model, texts, **LATEST)
    boxes[UPLOAD_TEXT].upload(
        sources.upload, [boxes[UPLOAD_TEXT], model], [*texts, boxes[UPLOAD_NOTE]], **QUIET
    ).then(*answering, **QUIET)


def _is_name(typed: str) -> bool:
    """Whether it may be part of a name: a path is nobody's business but this machine's."""
    return bool(typed) and not typed.startswith(("/", "~", ".", "job:"))


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(MEGABYTE):
            yield chunk
