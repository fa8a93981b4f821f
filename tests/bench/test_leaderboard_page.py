# SPDX-License-Identifier: Apache-2.0
"""The page and its plot say what the rows say."""

import math
from typing import Any
from xml.etree import ElementTree

import pytest
from leaderboard.plot import draw
from leaderboard.report import About, markdown
from leaderboard.results import Failure
from leaderboard.rows import Row
from leaderboard.setting import QUICK, ROOT
from leaderboard.tables import ratio_text
from made_up_rows import make_result

ABOUT = About(
    setting=QUICK,
    form="quick",
    cores=2,
    device="CPU only, 2 threads",
    versions={"torch": "9.9"},
    code="0123456789abcdef",
    cached_before=23040,
    numbers_before=384,
    rows=4,
)
BUCKETS = tuple(
    {"start": start, "end": end, "tokens": end - start, "ratio": ratio}
    for start, end, ratio in ((0, 512, 1.5), (512, 1024, 2.5))
)

WEIGHTS = {"linear_parameters_before": 1000.0, "linear_parameters_after": 799.0}

INTERVAL = {"ratio": 1.25, "interval": {"value": 1.25, "low": 1.2, "high": 1.3}, "kl": 0.25, "top1": 0.8}
HEALED = [
    {"name": name, "tokens": 300032.0, "after": dict.fromkeys(QUICK.texts, INTERVAL)}
    for name in ("fast-0.125", "mine-0.2")
]
DECODED = [
    {"name": name, "context": 8192, "batch": 8, "ms": ms, "peak": 1e9}
    for name, ms in (("original", 300.0), ("fast", 200.0), ("original, concatenating", 800.0))
]


@pytest.fixture
def page() -> str:
    results = [
        make_result("transmla", 0.3125, 3.65, is_timed=True, seconds=80.0),
        make_result("fast", 0.3125, 1.9, is_timed=True, seconds=100.0, positions=BUCKETS),
        make_result("fast", 0.125, 8.0),
        make_result("latentllm", 0.3125, 2.0, more=WEIGHTS),
        make_result("fast", 0.3125, 2.28, name="no mixing", switched={"rope_mix": "none"}),
    ]
    memory = [{"layers": 4, "tokens": 1024, "peak_mb": 512.25}]
    refused = Failure(
        row=Row(name="mha2mla", preset="mha2mla", keep=0.125), message="no room", is_refused=True
    )
    return markdown(ABOUT, [*results, refused], memory, HEALED, DECODED)


def section(page: str, title: str) -> list[list[str]]:
    """The cells of the table under the heading that starts with `title`."""
    (part,) = [part for part in page.split("\n## ") if part.startswith(title)]
    lines = [line for line in part.splitlines() if line.startswith("| ") and "---" not in line]
    return [line.strip("| ").split(" | ") for line in lines]


def test_a_budget_lists_its_presets_best_first(page: str) -> None:
    head, *rows = section(page, "−68.75 %")
    cache = ["preset", "numbers cached", "bytes per token", "weights of linear layers"]
    assert head[:5] == [*cache, "wikipedia-heldout: perplexity"]
    assert [row[0] for row in rows] == ["`fast`", "`latentllm`", "`transmla`"]
    assert rows[0][1:7] == ["120 of 384", "7,200", "–", "x1.900", "0.500", "75.0 %"]
    assert rows[1][3] == "−20.1 %"


def test_an_ablation_is_not_among_the_presets_but_beside_its_own(page: str) -> None:
    head, whole, switched = section(page, "Each stage on and off")
    assert head[3] == "damage beside the preset's"
    assert (whole[1], whole[3]) == ("nothing", "–")
    assert switched[1] == "no mixing (`rope_mix` none)"
    assert switched[3] == "x1.200", "2.28 / 1.9"


def test_a_budget_that_a_preset_cannot_meet_is_said(page: str) -> None:
    rows = section(page, "−87.5 %")
    assert ["`mha2mla`", *["–"] * 9] in rows
    assert "- `mha2mla` at keep 0.125, mha2mla: no room" in page


def test_times_are_relative_to_the_published_tool(page: str) -> None:
    head, *rows = section(page, "Time and memory")
    assert head == ["preset", "seconds", "relative to `transmla`", "calibrating", "verifying", "peak memory"]
    assert [row[:3] for row in rows] == [["`transmla`", "80", "x1.00"], ["`fast`", "100", "x1.25"]]
    assert rows[0][-1] == "612 MB"


def test_positions_show_where_trust_ends(page: str) -> None:
    assert section(page, "By position") == [
        ["preset", "0 to 512", "512 to 1,024"],
        ["`fast`", "x1.500", "x2.50"],
    ]


def test_calibration_memory_is_shown_as_it_was_measured(page: str) -> None:
    assert section(page, "Calibration memory") == [["layers", "tokens", "peak mb"], ["4", "1,024", "512.2"]]


def test_what_was_predicted_stands_beside_what_was_measured() -> None:
    """Where a profile predicts: it knows some recipes, and a timed row has none."""
    figures = {"kl_predicted": 0.41, "kl_predicted_low": 0.3, "kl_predicted_high": 0.6}
    chosen = make_result("fast", 0.3125, 2.0, more=figures)
    head, *rows = section(markdown(ABOUT, [chosen, make_result("transmla", 0.3125, 3.65)]), "Predicted loss")
    assert head[2:6] == ["predicted", "at least", "at most", "measured on wikipedia-heldout"]
    assert rows == [["`fast`", "0.3125", "0.410", "0.300", "0.600", "0.500", "x1.220"]]


def test_the_head_says_how_to_repeat_the_run(page: str) -> None:
    head = page.split("\n## ")[0]
    for word in (
        "quick form",
        "2 CPU cores",
        "2031-05-17",
        "torch 9.9",
        "8 windows of 512",
        "16,352 predicted",
    ):
        assert word in head
    for name, value in QUICK.calibration.model_dump().items():
        assert f"{name} {value}" in head
    assert str(ROOT) not in page


def test_a_text_that_was_calibrated_on_is_not_called_held_out(page: str) -> None:
    assert page.count("(never calibrated on)") == 2
    asked = QUICK.calibration.model_copy(update={"text": "wikipedia+news"})
    about = ABOUT.model_copy(update={"setting": QUICK.model_copy(update={"calibration": asked})})
    assert "`news` (part of the calibration)" in markdown(about, [])


def test_sections_without_figures_are_left_out() -> None:
    page = markdown(ABOUT, [make_result("fast", 0.5, 1.2)])
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        "## −50 % of the cache (keep 0.5)"
    ]


def test_a_page_without_a_single_row_can_be_written() -> None:
    assert "not measured" in markdown(ABOUT, [])


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(1.0834, "x1.083"), (3.654, "x3.65"), (19.84, "x19.8"), (6988.4, "x6,988"), (math.inf, "broken")],
)
def test_ratios_are_told_apart(ratio: float, text: str) -> None:
    assert ratio_text(ratio) == text


def marks(svg: str) -> list[Any]:
    """Everything with a text in the drawing."""
    return [element.text for element in ElementTree.fromstring(svg).iter() if element.text]


def test_the_plot_has_a_line_per_preset_and_a_panel_per_text() -> None:
    results = [make_result(preset, keep, 3 - keep) for preset in ("fast", "quality") for keep in (0.5, 0.125)]
    results.append(make_result("fast", 0.3125, 50, switched={"rope_mix": "none"}))
    said = marks(draw(results, 23040))
    assert [text for text in said if text in ("fast", "quality")] == ["fast", "quality"]
    assert {"wikipedia-heldout", "news"} <= set(said)
    assert {"x2", "x3"} <= set(said)
    assert "x50" not in said, "an ablation is no point of a preset's line"


def test_equal_rows_give_an_equal_plot() -> None:
    results = [make_result("fast", keep, 2) for keep in (0.5, 0.125)]
    assert draw(results, 23040) == draw(results, 23040)


def test_a_broken_model_is_no_point() -> None:
    results = [make_result("fast", keep, ratio) for keep, ratio in ((0.5, 2), (0.125, math.inf))]
    assert "x2" in marks(draw(results, 23040))


def test_a_healed_model_stands_beside_what_it_was(page: str) -> None:
    """Its start is a row of the leaderboard; one that is not there leaves that cell open."""
    _, known, unknown = section(page, "Healed")
    text = ["x8.00", "x1.250 (x1.200 to x1.300)", "0.500 → 0.250"]
    assert known == ["`fast`", "0.125", "300,032", *text, *text, "80.0 %"]
    assert unknown[:6] == ["`mine`", "0.2", "300,032", "–", "x1.250 (x1.200 to x1.300)", "0.250"]


def test_decode_is_beside_both_originals(page: str) -> None:
    _, original, fast, usual = section(page, "Decode speed")
    assert fast == ["8,192", "8", "fast", "40.0", "x1.50", "x4.00", "1,000.0"]
    assert original[4:6] == ["x1.00", "x2.67"]
    assert usual[4:6] == ["x0.38", "x1.00"]


def test_what_no_benchmark_has_measured_is_no_section() -> None:
    page = markdown(ABOUT, [])
    assert "## Healed" not in page
    assert "## Decode" not in page
