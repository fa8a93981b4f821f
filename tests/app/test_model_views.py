# SPDX-License-Identifier: Apache-2.0
"""What the page of a model draws: points that were measured, lines that are predicted, layers as profiled."""

import math

import numpy as np
import pytest

from app.services.pareto import pareto_points
from app.services.profile_curves import LayerSpectra
from app.services.workbench import Workbench
from app.ui.plots.layer_overlay import layer_overlay
from app.ui.plots.layer_widths import layer_widths
from app.ui.plots.pareto import CEILING, Point, Step, pareto
from app.ui.plots.rope_by_head import MOST, rope_by_head
from app.ui.plots.sensitivity import sensitivity
from app.ui.plots.spectra import cumulative_energy, spectrum
from core.presets import spec_from_preset
from tests.app.conftest import HEADS, LAYERS, PAIRS, contribution, finish_job, layer_rows

SPECTRA = LayerSpectra(preset="quality", rope_dim=0, ranks=(0, 2, 4), tail=((4.0, 1.0, 0.0), (2.0, 1.9, 0.0)))


def test_saved_is_the_slope_of_what_is_left() -> None:
    """4 to 1 over two numbers saves 1.5 each, 1 to 0 saves 0.5; the second layer loses late."""
    np.testing.assert_allclose(SPECTRA.saved, [[1.5, 0.5], [0.05, 0.95]])
    np.testing.assert_allclose(SPECTRA.energy, [[0, 0.75, 1], [0, 0.05, 1]])
    assert SPECTRA.lost(1) == pytest.approx([2.5, 1.95])
    assert SPECTRA.lost(99) == [0.0, 0.0]


def test_the_spectrum_is_drawn_in_decades_and_energy_with_its_lines() -> None:
    cells = spectrum(SPECTRA.ranks, SPECTRA.saved).data[0]
    assert list(cells.x) == [2, 4]
    # float32 colours: seven digits
    np.testing.assert_allclose(np.asarray(cells.z), np.log10(SPECTRA.saved), rtol=1e-6)
    assert "1.5" in cells.text[0][0]
    figure = cumulative_energy(SPECTRA.ranks, SPECTRA.energy)
    # nines: nothing, 0.6 of one, and as many as are counted
    np.testing.assert_allclose(np.asarray(figure.data[0].z)[0], [0, -np.log10(0.25), 4], atol=1e-6)
    assert list(figure.data[0].text[0]) == ["0", "75", "100"]
    assert [line.name for line in figure.data[1:]] == ["90% held", "99% held"]
    assert list(figure.data[1].x) == [4, 4]


def test_a_layer_with_nothing_to_lose_can_be_drawn() -> None:
    """All zero: the share of nothing is everything, and no colour is infinite."""
    nothing = SPECTRA.model_copy(update={"tail": ((0.0, 0.0, 0.0),)})
    assert nothing.energy == [[1.0, 1.0, 1.0]]
    assert np.isfinite(np.asarray(spectrum(nothing.ranks, nothing.saved).data[0].z)).all()


def test_sensitivity_is_a_line_per_budget_from_the_smallest() -> None:
    figure = sensitivity({0.5: [0.1, 0.2], 0.125: [1.0, 2.0]})
    assert [line.name for line in figure.data] == ["keep 12.5 %", "keep 50 %"]
    assert list(figure.data[0].y) == [1.0, 2.0]


def test_points_stand_where_they_were_measured_and_open_their_job() -> None:
    points = [Point(7200, 1.16, "Best quality", "a", "/jobs/a"), Point(7200, 3.1, "TransMLA", "b", "/jobs/b")]
    figure = pareto(points, [], 23_040)
    quality, transmla, original = figure.data
    assert (list(quality.x), list(quality.y), list(quality.customdata)) == ([7200], [1.16], ["/jobs/a"])
    assert "perplexity ×3.10, measured" in transmla.text[0]
    assert (list(original.x), list(original.y)) == ([23_040], [1.0])
    assert figure.layout.yaxis.range[1] > math.log10(3.1)


def test_a_job_beyond_the_ceiling_is_an_arrow_that_says_its_value() -> None:
    """At ×250 the axis would hide the difference between ×1.1 and ×1.3; the job is not left out either."""
    points = [Point(7200, 1.2, "Best quality", "a", "/jobs/a"), Point(7200, 250, "MHA2MLA", "b", "/jobs/b")]
    figure = pareto(points, [], 23_040)
    arrow = next(trace for trace in figure.data if trace.name == f"above ×{CEILING:g}")
    assert "×250" in arrow.text[0]
    assert list(arrow.customdata) == ["/jobs/b"]
    assert math.log10(arrow.y[0]) <= figure.layout.yaxis.range[1] < 1


def test_a_job_that_measured_better_than_the_original_is_on_the_plot() -> None:
    """On a short text a ratio may fall below 1: the axis begins below it."""
    figure = pareto([Point(7200, 0.93, "Best quality", "a", "/jobs/a")], [], 23_040)
    assert figure.layout.yaxis.range[0] < math.log10(0.93)
    assert "×0.95" in figure.layout.yaxis.ticktext


def test_the_predicted_line_has_its_band() -> None:
    steps = [Step(2880, 1.5, 2.0, 2.6), Step(11_520, 1.01, 1.05, 1.1)]
    band, line, _ = pareto([], steps, 23_040).data
    assert list(line.y) == [2.0, 1.05]
    assert list(band.y) == [2.6, 1.1, 1.01, 1.5]
    assert list(band.x) == [2880, 11_520, 11_520, 2880]


def test_the_best_are_those_nobody_beats(bench: Workbench) -> None:
    """Equal jobs do not beat each other: both stay."""
    spec = spec_from_preset("quality")
    jobs = [finish_job(bench, {"config.json": b"{}"}, spec) for _ in range(2)]
    points = pareto_points(bench, "demo")
    assert {point.job for point in points} == set(jobs)
    assert all(point.is_best and point.keep == pytest.approx(7200 / 23_040) for point in points)
    assert pareto_points(bench, "another") == []


def test_widths_before_and_after_stack_to_what_is_cached() -> None:
    """Latent 12 and 8 rotary numbers of 20, where 64 were."""
    original, latent, rotary = layer_widths(layer_rows()).data
    assert list(original.y) == [64] * LAYERS
    assert (list(latent.y), list(rotary.base), list(rotary.y)) == ([12] * LAYERS, [12] * LAYERS, [8] * LAYERS)
    alone = [row | {"cached_numbers": row["kv_lora_rank"]} for row in layer_rows()]
    assert len(layer_widths(alone).data) == 2, "a layout without rotary numbers has no empty entry for them"


def test_heads_beside_each_other_share_one_scale() -> None:
    figure = rope_by_head(contribution())
    cells = [trace for trace in figure.data if trace.type == "heatmap"]
    assert len(cells) == HEADS
    assert {(trace.zmin, trace.zmax) for trace in cells} == {(cells[0].zmin, cells[0].zmax)}
    # head 1 scores twice head 0 at pair 0, which is the most; head 0 the least at the last pair
    assert cells[0].zmax == pytest.approx(math.log10(2), abs=1e-6)
    assert cells[0].zmin == pytest.approx(1 - PAIRS, abs=1e-6)
    many = contribution() | {"scores": [[[1.0] * PAIRS] * 12] * LAYERS, "kept": [[[]] * 12] * LAYERS}
    assert len([trace for trace in rope_by_head(many).data if trace.type == "heatmap"]) == MOST


def test_an_overlay_leaves_out_what_a_job_does_not_know() -> None:
    figure = layer_overlay({"A": layer_rows(), "B": []}, "key_error", "error")
    assert list(figure.data[0].y) == [row["key_error"] for row in layer_rows()]
    assert len(figure.data[1].x) == 0
