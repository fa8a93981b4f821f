# SPDX-License-Identifier: Apache-2.0
"""docs/leaderboard.md: tables out of measured rows. Pure: results in, Markdown out."""

from collections.abc import Mapping, Sequence
from typing import Any

from core.spec import Frozen
from leaderboard.further import decoded, healed
from leaderboard.results import Failure, Result
from leaderboard.setting import MAIN_KEEP, Setting
from leaderboard.tables import Cells, ratio_text, table

# the preset whose conversion time is the unit, and stands for the published tool
_UNIT = "transmla"


class About(Frozen):
    """What a reader must know to repeat the run. No name of a machine: cores and versions are what counts."""

    setting: Setting
    form: str
    cores: int
    device: str
    versions: dict[str, str]
    code: str
    cached_before: int
    numbers_before: int
    rows: int


def markdown(
    about: About,
    outcomes: Sequence[Result | Failure],
    calibration_memory: Sequence[Mapping[str, Any]] = (),
    healing: Sequence[Mapping[str, Any]] = (),
    decode: Sequence[Mapping[str, Any]] = (),
    image: str = "images/leaderboard.svg",
) -> str:
    """The whole page."""
    results = [one for one in outcomes if isinstance(one, Result)]
    failures = [one for one in outcomes if isinstance(one, Failure)]
    parts = [_head(about, results, image), *_budgets(about, outcomes)]
    parts += [healed(healing, results, about.setting), decoded(decode)]
    parts += [_ablations(about, results), _positions(about, results), _times(results)]
    parts += [_predictions(about, results), _memory(calibration_memory), _failures(failures)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(about: About, results: Sequence[Result], image: str) -> str:
    asked = about.setting
    dates = sorted({result.date for result in results})
    calibration = ", ".join(f"{name} {value}" for name, value in asked.calibration.model_dump().items())
    tokens = sum(quality.tokens for quality in results[0].quality.values()) if results else 0
    original = (
        ", ".join(f"{quality.perplexity_base:.2f} on {text}" for text, quality in results[0].quality.items())
        if results
        else "not measured"
    )
    return f"""# Leaderboard

Written by `make bench`; do not edit. Every number on this page was measured in the run described below,
unless it is called predicted: conversions against their original, training-free. What stands under Healed and
Decode speed was measured by benchmarks of their own, named there. Perplexity is a ratio: x1 is the original,
lower is better.

- **Model** `{asked.model}`: {about.numbers_before} numbers cached per token and layer, \
{about.cached_before:,} bytes per token; perplexity {original}.
- **Calibration**, the same for every row: {calibration}.
- **Evaluation** on {" and ".join(_held_out(text, asked) for text in asked.texts)}: the first \
{asked.windows} windows of {asked.context} tokens of each, {tokens:,} predicted tokens in all, float32.
- **Run**: {about.form} form, {about.rows} rows, {about.cores} CPU cores, {about.device}, \
{" to ".join(dict.fromkeys((dates[0], dates[-1]))) if dates else "no date"}.
- **Versions**: {", ".join(f"{name} {version}" for name, version in about.versions.items())}; \
sources {about.code[:12]}.

![cached bytes against perplexity ratio]({image})"""


def _held_out(text: str, asked: Setting) -> str:
    """Whether the text was looked at while converting is part of what its figures mean."""
    seen = text in asked.calibration.text.split("+")
    return f"`{text}` ({'part of the calibration' if seen else 'never calibrated on'})"


def _budgets(about: About, outcomes: Sequence[Result | Failure]) -> list[str]:
    """One table per budget, the best first."""
    plain = [one for one in outcomes if not one.row.switched]
    keeps = sorted({one.row.keep for one in plain}, reverse=True)
    return [_budget(about, keep, [one for one in plain if one.row.keep == keep]) for keep in keeps]


def _budget(about: About, keep: float, outcomes: Sequence[Result | Failure]) -> str:
    texts = about.setting.texts
    head = ["preset", "numbers cached", "bytes per token", "weights of linear layers"]
    head += [f"{text}: {what}" for text in texts for what in ("perplexity", "KL (nats)", "same top token")]
    results = sorted(
        (one for one in outcomes if isinstance(one, Result)), key=lambda one: one.quality[texts[0]].ratio
    )
    rows = [
        [f"`{one.row.preset}`", *_cache(about, one), _linears(one), *_qualities(one, texts)]
        for one in results
    ]
    rows += [
        [f"`{one.row.preset}`", *["–"] * (len(head) - 1)] for one in outcomes if isinstance(one, Failure)
    ]
    return f"## {_percent(keep - 1)} of the cache (keep {keep:g})\n\n" + table(head, rows)


def _cache(about: About, result: Result) -> Cells:
    after = result.conversion.metrics["kv_bytes_per_token_measured"]
    numbers = about.numbers_before * after / about.cached_before
    return f"{numbers:g} of {about.numbers_before}", f"{after:,.0f}"


def _linears(result: Result) -> str:
    """Numbers of the decoder's linear layers beside the original's, where there was a budget of them."""
    metrics = result.conversion.metrics
    if "linear_parameters_after" not in metrics:
        return "–"
    kept = metrics["linear_parameters_after"] / metrics["linear_parameters_before"]
    return f"{100 * (kept - 1):.1f} %".replace("-", "−")


def _qualities(result: Result, texts: Sequence[str]) -> list[str]:
    cells: list[str] = []
    for text in texts:
        quality = result.quality[text]
        same = f"{100 * quality.top1_agreement:.1f} %"
        cells += [ratio_text(quality.ratio), f"{quality.kl_to_base:.3f}", same]
    return cells


def _ablations(about: About, results: Sequence[Result]) -> str:
    """What each choice is worth: the preset as it is, then with one thing switched."""
    switched = [one for one in results if one.row.switched]
    if not switched:
        return ""
    texts = about.setting.texts
    head = ["preset", "what is switched", "numbers cached", "damage beside the preset's"]
    head += [f"{text}: {what}" for text in texts for what in ("perplexity", "KL (nats)", "same top token")]
    rows = []
    for preset in dict.fromkeys(one.row.preset for one in switched):
        whole = [one for one in results if one.row.preset == preset and _is_main(one)]
        for one in [*whole, *(one for one in switched if one.row.preset == preset)]:
            beside = _beside(one, whole[0], texts[0]) if whole and one is not whole[0] else "–"
            what = one.row.name if one.row.switched else "nothing"
            rows.append(
                [f"`{preset}`", _switched(what, one), _cache(about, one)[0], beside, *_qualities(one, texts)]
            )
    return (
        f"## Each stage on and off (keep {MAIN_KEEP:g})\n\n"
        "Measured as above. The fourth column is the ratio of the two perplexities on "
        f"`{texts[0]}`: above x1 the preset's own choice is the better one.\n\n" + table(head, rows)
    )


def _switched(what: str, result: Result) -> str:
    choices = ", ".join(f"`{stage}` {choice}" for stage, choice in result.row.switched.items())
    return f"{what} ({choices})" if choices else what


def _beside(one: Result, whole: Result, text: str) -> str:
    return ratio_text(one.quality[text].perplexity / whole.quality[text].perplexity)


def _positions(about: About, results: Sequence[Result]) -> str:
    """Where each recipe stops being trustworthy."""
    measured = [one for one in results if one.positions]
    if not measured:
        return ""
    head = ["preset", *(f"{one.start:,} to {one.end:,}" for one in measured[0].positions)]
    rows = [[f"`{one.row.preset}`", *(ratio_text(at.ratio) for at in one.positions)] for one in measured]
    asked = about.setting
    return (
        f"## By position (keep {MAIN_KEEP:g})\n\n"
        f"Measured perplexity ratio of the tokens at these positions, {asked.long_windows} "
        f"window{'s' if asked.long_windows > 1 else ''} of {asked.long_context:,} tokens of "
        f"`{asked.long_text}`; calibrated at context {asked.calibration.context:,}.\n\n" + table(head, rows)
    )


def _times(results: Sequence[Result]) -> str:
    """Conversions that paid for their own calibration, relative to the published tool's recipe."""
    timed = [one for one in results if one.row.is_timed]
    if not timed:
        return ""
    unit = next((one for one in timed if one.row.preset == _UNIT), None)
    stages = list(dict.fromkeys(stage for one in timed for stage in one.conversion.stages))
    head = ["preset", "seconds", f"relative to `{_UNIT}`", *stages, "peak memory"]
    rows = [
        [
            f"`{one.row.preset}`",
            f"{_seconds(one):.0f}",
            f"x{_seconds(one) / _seconds(unit):.2f}" if unit else "–",
            *(f"{one.conversion.stages.get(stage, 0):.0f}" for stage in stages),
            f"{one.conversion.metrics['peak_memory_bytes'] / 1e6:,.0f} MB",
        ]
        for one in timed
    ]
    return (
        f"## Time and memory of a conversion (keep {MAIN_KEEP:g})\n\n"
        "Measured in a process of its own that calibrates for itself and reuses nothing; verification in a "
        "fresh process is included in the seconds, evaluation is not.\n\n" + table(head, rows)
    )


def _predictions(about: About, results: Sequence[Result]) -> str:
    """What the model's profile says of a conversion before it starts, beside what was measured after."""
    names = ("kl_predicted", "kl_predicted_low", "kl_predicted_high")
    predicted = [one for one in results if not one.row.switched and names[0] in one.conversion.metrics]
    if not predicted:
        return ""
    text = about.setting.texts[0]
    head = [
        "preset",
        "keep",
        "predicted",
        "at least",
        "at most",
        f"measured on {text}",
        "measured / predicted",
    ]
    rows = [
        [
            f"`{one.row.preset}`",
            f"{one.row.keep:g}",
            *(f"{one.conversion.metrics[name]:.3f}" for name in names),
            f"{one.quality[text].kl_to_base:.3f}",
            ratio_text(one.quality[text].kl_to_base / one.conversion.metrics[names[0]]),
        ]
        for one in predicted
    ]
    return (
        "## Predicted loss\n\nKL to the original in nats per token. The profile was fitted on text held back "
        "from its calibration; the range is its error on budgets that the fit did not see.\n\n"
        + table(head, rows)
    )


def _memory(entries: Sequence[Mapping[str, Any]]) -> str:
    """The printed figures of bench_calibration_memory.py, whatever columns it chose."""
    if not entries:
        return ""
    head = list(dict.fromkeys(name for entry in entries for name in entry))
    rows = [[_cell(entry.get(name, "–")) for name in head] for entry in entries]
    return (
        "## Calibration memory\n\nMeasured peak memory of the calibrating process: it must not grow with the "
        "number of layers or tokens.\n\n" + table([name.replace("_", " ") for name in head], rows)
    )


def _failures(failures: Sequence[Failure]) -> str:
    if not failures:
        return ""
    lines = [
        f"- `{one.row.preset}` at keep {one.row.keep:g}, {one.row.name}: {one.message}" for one in failures
    ]
    return "## Not converted\n\n" + "\n".join(lines)


def _is_main(result: Result) -> bool:
    return not result.row.switched and result.row.keep == MAIN_KEEP


def _seconds(result: Result) -> float:
    return result.conversion.metrics["seconds"]


def _percent(fraction: float) -> str:
    return f"{100 * fraction:g} %".replace("-", "−")


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
