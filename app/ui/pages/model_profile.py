# SPDX-License-Identifier: Apache-2.0
"""The profile of a model: what it says of every layer; or the button that makes it, with its cost."""

from typing import Any

import gradio as gr

from app.services.known_models import model_facts, profile_of
from app.services.profile_curves import presets_of, spread_of
from app.services.profile_jobs import profile_job, profile_seconds, submit_profile
from app.services.workbench import Workbench
from app.ui.components.chips import term
from app.ui.components.messages import empty, failure
from app.ui.components.model import profile_facts
from app.ui.components.plot_box import plot_box
from app.ui.components.profile_offer import is_under_way, offer_label, profile_progress
from app.ui.events import QUIET
from app.ui.pages import model_figures
from app.ui.strings import NO_PROFILE, preset_title
from core.errors import WorkbenchError
from core.facts import ModelFacts
from core.profiles import Profile
from core.spec import JobSpec

_SECONDS = 3.0


class Section:
    """Lays itself out where it is made; `attach` fills it once the model is known."""

    def __init__(self) -> None:
        with gr.Column(elem_classes="sheet"):
            gr.HTML(f"<h2>{term('Profile', 'profile')}</h2>")
            self._about = gr.HTML(elem_id="profile-about")
            self._progress = gr.HTML(elem_id="profile-progress")
            self._make = gr.Button("Make the profile", variant="primary", visible=False, elem_id="profile")
            self._refused = gr.HTML()
            with gr.Column(visible=False, elem_id="profile-plots") as self._whole:
                self._recipe = gr.Radio([], label="Layers as seen by", elem_id="profile-recipe")
                self._spectra = [*_pair(_SPECTRUM, _ENERGY), *_box(_SENSITIVITY)]
                self._pairs = self._lay_out_pairs()
        self._timer = gr.Timer(_SECONDS, active=False)

    def _lay_out_pairs(self) -> list[Any]:
        gr.HTML(f"<h3>{term('Rotary pairs', 'rope_pair')}</h3>")
        with gr.Row():
            self._by = gr.Radio([], label="by", elem_id="pair-by", min_width=240)
            self._heads = gr.Radio(
                [model_figures.SUMMED, model_figures.BESIDE],
                value=model_figures.SUMMED,
                label="heads",
                elem_id="pair-heads",
                min_width=240,
            )
        return [gr.HTML(), plot_box("pair-plot"), gr.HTML()]

    def attach(self, workbench: Workbench, model: gr.Textbox, opened: Any) -> None:
        """The handlers; `opened` is the event after which `model` holds a name."""
        live = [self._about, self._progress, self._make, self._timer]
        shown = [*live, self._whole, self._recipe, self._by, *self._spectra, *self._pairs]

        def on_open(name: str) -> list[Any]:
            return _filled(workbench, name, len(shown))

        def on_tick(name: str) -> list[Any]:
            facts = model_facts(workbench, name)
            if is_under_way(profile_job(workbench, facts)):
                return [*_state(workbench, facts), *[gr.skip()] * (len(shown) - len(live))]
            return _filled(workbench, name, len(shown))

        def on_make(name: str) -> list[Any]:
            try:
                submit_profile(workbench, {"model": name})
            except WorkbenchError as error:
                return [*[gr.skip()] * len(live), failure(error)]
            return [*_state(workbench, model_facts(workbench, name)), ""]

        def on_recipe(preset: str, name: str) -> list[Any]:
            facts, profile = _profile(workbench, name)
            return model_figures.spectra_plots(profile, facts, preset) if profile else [gr.skip()] * 6

        def on_pairs(by: str, heads: str, name: str) -> list[Any]:
            facts, profile = _profile(workbench, name)
            return model_figures.pair_plot(profile, facts, by, heads) if profile else [gr.skip()] * 3

        opened.then(on_open, model, shown, **QUIET)
        self._timer.tick(on_tick, model, shown, **QUIET)
        self._make.click(on_make, model, [*live, self._refused], **QUIET)
        self._recipe.input(on_recipe, [self._recipe, model], self._spectra, **QUIET)
        gr.on(
            [self._by.input, self._heads.input],
            on_pairs,
            [self._by, self._heads, model],
            self._pairs,
            **QUIET,
        )


def _pair(left: tuple[str, str, str], right: tuple[str, str, str]) -> list[Any]:
    with gr.Row():
        boxes = []
        for one in (left, right):
            with gr.Column(min_width=320):
                boxes += _box(one)
    return boxes


def _box(words: tuple[str, str, str]) -> list[Any]:
    title, caption, name = words
    gr.HTML(f'<h3>{title}</h3><p class="caption">{caption}</p>')
    return [plot_box(name), gr.HTML()]


def _profile(workbench: Workbench, name: str) -> tuple[ModelFacts, Profile | None]:
    facts = model_facts(workbench, name)
    return facts, workbench.profiles.newest(workbench.settings.home, facts.name)


def _state(workbench: Workbench, facts: ModelFacts) -> list[Any]:
    """What it is, how far it is, the button and whether to look again."""
    profile = workbench.profiles.newest(workbench.settings.home, facts.name)
    stored, job = profile_of(workbench, facts.name), profile_job(workbench, facts)
    under_way = is_under_way(job)
    if profile is not None and stored is not None:
        about = profile_facts(stored, spread_of(profile))
    else:
        about = empty(NO_PROFILE)
    can_make = profile is None and not under_way and not facts.problems
    seconds = profile_seconds(workbench, JobSpec(model=facts.name), facts) if can_make else None
    return [
        about,
        profile_progress(job) if profile is None or under_way else "",
        gr.Button(offer_label(seconds), visible=can_make),
        gr.Timer(active=under_way),
    ]


def _filled(workbench: Workbench, name: str, boxes: int) -> list[Any]:
    """Everything, in the order of `shown`; nothing while there is no model."""
    try:
        facts, profile = _profile(workbench, name)
    except WorkbenchError:
        return [gr.skip()] * boxes
    state = _state(workbench, facts)
    if profile is None:
        return [*state, gr.Column(visible=False), *[gr.skip()] * (boxes - len(state) - 1)]
    presets, by = presets_of(profile), model_figures.pair_choices(profile)
    first = presets[0] if presets else ""
    return [
        *state,
        gr.Column(visible=True),
        gr.Radio([(preset_title(one), one) for one in presets], value=first or None),
        gr.Radio(by, value=by[0][1] if by else None, visible=bool(by)),
        *model_figures.spectra_plots(profile, facts, first),
        *model_figures.pair_plot(profile, facts, model_figures.CONTRIBUTION, model_figures.SUMMED),
    ]


_SPECTRUM = (
    term("Spectrum", "spectrum"),
    "What each further number of a latent saves, to second order. Steep is good.",
    "spectrum-plot",
)
_ENERGY = (
    term("Cumulative energy", "energy"),
    "The part of what a layer could lose that a latent of this width holds.",
    "energy-plot",
)
_SENSITIVITY = (
    term("Sensitivity", "sensitivity"),
    "What each layer loses when all get the same latent, to second order: it compares layers.",
    "sensitivity-plot",
)
