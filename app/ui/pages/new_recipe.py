# SPDX-License-Identifier: Apache-2.0
"""The recipe editor and the clone of a job on the New page: text to form, form to text, and what differs."""

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from app.services import requests
from app.services.errors import NotFoundError
from app.services.lineage import differs_from
from app.services.recipes import Format, read_recipe, read_recipe_file, write_recipe
from app.services.requests import read_request
from app.services.text_names import friendly
from app.services.workbench import Workbench
from app.ui.components.lineage import cloned_from, unseen
from app.ui.components.messages import failure
from app.ui.components.recipe_editor import JSON, SAVE, RecipeEditor
from app.ui.events import LATEST, QUIET
from app.ui.form import BASE, FIELDS, Form, of_spec
from app.ui.form_base import without_box
from core.errors import SpecError, WorkbenchError
from core.spec import JobSpec

# the job in /?from=JOB; the other input passes as it is
READ_CLONED = "(kept) => [kept, new URLSearchParams(window.location.search).get('from') || '']"
_LONGEST_LINE = 120


@dataclass(frozen=True)
class RecipePart:
    """What of the page shows or sets the whole request."""

    workbench: Workbench
    editor: RecipeEditor
    lineage: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        """What `follow` fills, in its order."""
        editor = self.editor
        return [editor.text, editor.last, editor.note, editor.unseen, self.lineage]

    def follow(self, values: dict[str, Any], text: str, written: str) -> list[Any]:
        """The text of what the form says by now; one that says it already stays as somebody wrote it."""
        if set(values) != set(FIELDS):
            return [gr.skip()] * 5
        form = Form(values)
        spec = _spec_of(form)
        line = self._line(form, spec)
        # what is wrong with the form stands beside its boxes; there is no recipe of it
        if spec is None:
            return [gr.skip(), gr.skip(), gr.skip(), gr.skip(), line]
        # a note about another text, say a file that was opened meanwhile, is not this answer's to take away
        note: Any = gr.skip()
        if not _says(text, spec):
            text, note = write_recipe(spec, _format(written)), ""
        return [text, text, note, unseen(without_box(spec)), line]

    def apply(self, text: str, last: str, *entered: Any) -> list[Any]:
        """Values of all boxes, `last`, `applied`, the note; an invalid text changes nothing but the note."""
        nothing = [gr.skip()] * (len(FIELDS) + 2)
        if text == last:
            return [*nothing, ""]
        form = Form.of(entered)
        try:
            spec = readable(text)
        except SpecError as error:
            return [*nothing, _wrong(error, text)]
        values = of_spec(spec, form.values, form.parent)
        return [*(values[name] for name in FIELDS), text, secrets.token_hex(4), ""]

    def open_file(self, path: str | None, written: str) -> list[Any]:
        """The text of an uploaded file, and the note; the upload does not stay on the server."""
        if not path:
            return [gr.skip()] * 2
        try:
            spec = read_recipe_file(Path(path))
            text = Path(path).read_text(encoding="utf-8-sig")
        except SpecError as error:
            return [gr.skip(), failure(error)]
        finally:
            Path(path).unlink(missing_ok=True)
        is_json = text.lstrip().startswith("{")
        same = is_json == (_format(written) == "json")
        return [text if same else write_recipe(spec, _format(written)), ""]

    def rewrite(self, text: str, last: str, written: str) -> list[Any]:
        """The same request in the other form, `last` with it unless it was edited, and the note."""
        try:
            other = write_recipe(read_recipe(text), _format(written))
        except SpecError as error:
            return [gr.skip(), gr.skip(), _wrong(error, text)]
        return [other, other if text == last else gr.skip(), ""]

    def request(self, form: Form, text: str, last: str) -> dict[str, Any]:
        """What is to be submitted: an edited text was the last word. Raises SpecError when it is none."""
        return form.request if text == last else readable(text).model_dump(mode="json")

    def clone(self, job_id: str, values: dict[str, Any]) -> tuple[dict[str, Any], str]:
        """(the form of job `job_id`, what is wrong); a clone that was changed survives a reload."""
        if not job_id:
            return without_parent(values), ""
        if Form(values).parent == job_id:
            return values, ""
        try:
            job = requests.find_job(self.workbench, job_id)
        except NotFoundError as error:
            return without_parent(values), failure(error)
        return of_spec(friendly(self.workbench.settings, job.spec), values, job_id), ""

    def _line(self, form: Form, spec: JobSpec | None) -> Any:
        if not form.parent:
            return gr.skip()
        if spec is None:
            return cloned_from(form.parent, None)
        try:
            return cloned_from(form.parent, differs_from(self.workbench, form.parent, spec))
        except NotFoundError:
            return ""


def readable(text: str) -> JobSpec:
    """The conversion a text asks for; raises SpecError."""
    spec = read_recipe(text)
    if spec.kind != "convert":
        raise SpecError(
            f"this recipe is of kind {spec.kind}, and the form makes conversions",
            hint="set kind to convert",
            field="kind",
        )
    return spec


def without_parent(values: dict[str, Any]) -> dict[str, Any]:
    """The form as it is remembered where no job is being cloned."""
    base = values[BASE]
    return values | {BASE: base | {"parent": ""}} if base else values


class Answering(NamedTuple):
    """How the page answers a change: handler, inputs and outputs."""

    handler: Callable[..., Any]
    asked: list[Any]
    shown: list[Any]


def attach(part: RecipePart, saved: gr.BrowserState, entered: list[Any], answering: Answering) -> None:
    """Connect the editor: `saved` changes with every answer, and what was applied is answered."""
    editor = part.editor
    saved.change(part.follow, [saved, editor.text, editor.form], part.outputs, **LATEST)
    applied = [*entered, editor.last, editor.applied, editor.note]
    what = [editor.text, editor.last, *entered]
    gr.on([editor.apply.click, editor.text.blur], part.apply, what, applied, **QUIET)
    opened = [editor.text, editor.note]
    editor.load.upload(part.open_file, [editor.load, editor.form], opened, **QUIET).then(
        part.apply, what, applied, **QUIET
    )
    # a text that could not be applied changes no box, so nothing answers it by writing over it
    editor.applied.change(*answering, **QUIET)
    editor.form.input(
        part.rewrite,
        [editor.text, editor.last, editor.form],
        [editor.text, editor.last, editor.note],
        **QUIET,
    )
    editor.save.click(None, [editor.text, editor.form], None, js=SAVE)


def _spec_of(form: Form) -> JobSpec | None:
    try:
        return read_request(form.request)
    except WorkbenchError:
        return None


def _says(text: str, spec: JobSpec) -> bool:
    try:
        return bool(text) and read_recipe(text) == spec
    except SpecError:
        return False


def _format(written: str) -> Format:
    return "json" if written == JSON else "yaml"


def _wrong(error: SpecError, text: str) -> str:
    """The error, with the line it names."""
    named = re.match(r"line (\d+):", error.message)
    lines = text.splitlines()
    if not named or int(named[1]) > len(lines):
        return failure(error)
    line = " ".join(lines[int(named[1]) - 1].split())[:_LONGEST_LINE]
    return failure(error) + f'<pre class="wrong-line"><b>{named[1]}</b> {escape(line)}</pre>'
