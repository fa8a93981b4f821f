# SPDX-License-Identifier: Apache-2.0
"""The request as text: the form rewrites it, and what is edited in it sets the form."""

from dataclasses import dataclass

import gradio as gr
from gradio.components.textbox import InputHTMLAttributes

YAML, JSON = "YAML", "JSON"

# the text as the browser has it: nothing is asked of the server
SAVE = """(text, form) => {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], {type: 'text/plain'}));
  link.download = form === 'JSON' ? 'recipe.json' : 'recipe.yaml';
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}"""


@dataclass(frozen=True)
class RecipeEditor:
    """Its components.

    `last` is the text that says what the form says; another text was edited and not applied yet. `applied`
    changes whenever a text was.
    """

    unseen: gr.HTML
    fold: gr.Accordion
    form: gr.Radio
    text: gr.Textbox
    last: gr.Textbox
    applied: gr.Textbox
    note: gr.HTML
    apply: gr.Button
    load: gr.UploadButton
    save: gr.Button


def recipe_editor() -> RecipeEditor:
    """Lay out the editor, closed."""
    unseen = gr.HTML(elem_id="recipe-unseen")
    with gr.Accordion("Recipe as text", open=False, elem_id="recipe-editor") as fold:
        with gr.Row(elem_classes="recipe-bar"):
            form = gr.Radio(
                [YAML, JSON],
                value=YAML,
                label="Written as",
                show_label=False,
                container=False,
                elem_id="recipe-as",
            )
            load = gr.UploadButton(
                "Open a file", file_types=[".yaml", ".yml", ".json"], size="sm", elem_id="recipe-load"
            )
            save = gr.Button("Save as a file", size="sm", elem_id="recipe-save")
        text = gr.Textbox(
            lines=16,
            max_lines=16,
            label="Recipe",
            info="the whole request; changes count when they are applied, or when you leave the text",
            elem_id="recipe-text",
            html_attributes=InputHTMLAttributes(
                spellcheck=False, autocapitalize="off", autocorrect="off", autocomplete="off"
            ),
        )
        note = gr.HTML(elem_id="wrong-recipe")
        apply = gr.Button("Apply to the form", size="md", elem_id="recipe-apply")
        last, applied = gr.Textbox("", visible="hidden"), gr.Textbox("", visible="hidden")
    return RecipeEditor(unseen, fold, form, text, last, applied, note, apply, load, save)
