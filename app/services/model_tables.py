# SPDX-License-Identifier: Apache-2.0
"""The data behind the plots of a model, by the name of the figure."""

from app.services.errors import NotFoundError
from app.services.figure_table import FigureTable, cache_table
from app.services.frontier import frontier, frontier_table
from app.services.known_models import model_facts
from app.services.pareto import pareto_points, pareto_table
from app.services.profile_curves import pair_table, sensitivity_table, spectra, spectra_table
from app.services.workbench import Workbench
from core.facts import ModelFacts
from core.presets import DEFAULT_PRESET

FROM_PROFILE = ("spectrum", "sensitivity", "contribution", "damage")
NAMES = ("kv_memory", "pareto", "frontier", *FROM_PROFILE)


def model_table(workbench: Workbench, model: str, name: str, preset: str = DEFAULT_PRESET) -> FigureTable:
    """The table of figure `name`; raises NotFoundError for another name, or without a profile."""
    facts = model_facts(workbench, model)
    match name:
        case "kv_memory":
            return cache_table({"original": facts.kv_bytes_per_token})
        case "pareto":
            return pareto_table(pareto_points(workbench, facts.name))
        case "frontier":
            return frontier_table(frontier(workbench, facts.name, preset))
        case _ if name in FROM_PROFILE:
            return _from_profile(workbench, facts, name, preset)
    raise NotFoundError(f"a model has no figure '{name}'", hint=f"there is: {', '.join(NAMES)}", field="name")


def _from_profile(workbench: Workbench, facts: ModelFacts, name: str, preset: str) -> FigureTable:
    profile = workbench.profiles.newest(workbench.settings.home, facts.name)
    if profile is None:
        raise NotFoundError(
            f"'{facts.name}' has no profile", hint="make it on the page of the model", field="model"
        )
    if name in ("contribution", "damage"):
        return pair_table(profile, preset, name)
    found = spectra(profile, preset, facts)
    return spectra_table(found) if name == "spectrum" else sensitivity_table(found, facts)
