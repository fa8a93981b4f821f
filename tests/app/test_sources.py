# SPDX-License-Identifier: Apache-2.0
"""No number without its source: calculated, predicted or estimated before a job, measured after it."""

import re
from pathlib import Path

from app.services.estimate import estimate
from app.services.workbench import Workbench
from app.ui.components import results
from app.ui.components.cost import cost_card
from core.presets import spec_from_preset
from core.profiles import Prediction
from tests.app.conftest import finish_job

CHIP = re.compile(r'class="chip chip-(\w+)"')


def test_every_number_of_the_card_says_where_it_comes_from(bench: Workbench, tiny_checkpoint: Path) -> None:
    spec = spec_from_preset("quality", model=str(tiny_checkpoint), calibration={"text": "python-docs"})
    finish_job(bench, {"config.json": b"{}"}, spec)
    found = estimate(bench, spec.model_dump(), 8192, 8)
    card = cost_card(found.model_copy(update={"prediction": Prediction(loss=0.2, low=0.1, high=0.3)}))
    rows = re.findall(r"<dt>(.*?)</dt><dd[^>]*>(.*?)</dd>", card)
    sources = {
        re.sub("<.*?>", "", label): CHIP.findall(value)
        for label, value in rows
        if re.search(r"\d", re.sub("<.*?>", "", value))
    }
    assert [label for label, chips in sources.items() if not chips] == []
    assert {label: chips[0] for label, chips in sources.items() if chips != ["calculated"]} == {
        "KL to the original": "predicted",
        "Perplexity": "predicted",
        "Takes": "estimated",
    }


def test_every_figure_of_a_result_says_so_too(bench: Workbench) -> None:
    job = finish_job(bench, {"config.json": b"{}"})
    metrics = results.by_name(bench.store.metrics(job))
    tiles = re.findall(r'<div class="tile">(.*?)</div>', results.summary(metrics))
    rows = re.findall("<tr>(.*?)</tr>", results.quality_table(metrics) + results.memory_table(metrics))
    numbers = [one for one in (*tiles, *rows) if re.search(r"\d", re.sub("<.*?>", "", one))]
    assert len(numbers) > 5
    assert [one for one in numbers if not CHIP.search(one)] == []
    assert "measured" in CHIP.findall("".join(tiles))
