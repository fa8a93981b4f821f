# SPDX-License-Identifier: Apache-2.0
"""The result in words and tables: tiles, verdict, quality, memory, layers, downloads."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any
from urllib.parse import quote

from app.services.savings import linear_savings
from app.services.verdict import HEAL, SMALL, verdict
from app.ui.components.chips import source, term
from app.ui.components.tables import framed
from app.ui.format import (
    byte_unit,
    context,
    count,
    duration,
    flops,
    integer,
    number,
    percent,
    ratio,
    size,
    times,
)
from core.store.views import StoredArtefact, StoredMetric

Metrics = Mapping[str, StoredMetric]


def by_name(metrics: Sequence[StoredMetric]) -> dict[str, StoredMetric]:
    """Metrics of a job, to look up."""
    return {metric.name: metric for metric in metrics}


def summary(metrics: Metrics) -> str:
    """The verdict and the tiles; a tile whose number was not reported is left out."""
    return verdict_line(metrics) + tiles_row([*savings_tiles(metrics), *_quality_tiles(metrics)])


def tiles_row(tiles: Sequence[str]) -> str:
    """The tiles of a result, as many in a row as there is room for."""
    return f'<div class="tiles">{"".join(tiles)}</div>'


def verdict_line(metrics: Metrics) -> str:
    """The verdict, in the colour of what was lost."""
    values = {name: metric.value for name, metric in metrics.items()}
    # an infinite ratio is not in the record, only that the original was measured
    usual = float("inf") if "perplexity_base" in values else 1.0
    ratio_now = values.get("perplexity_ratio", usual)
    tone = "bad" if ratio_now > HEAL else "warn" if ratio_now > SMALL else "good"
    return f'<p class="verdict verdict-{tone}">{escape(verdict(values))}</p>'


def savings_tiles(metrics: Metrics) -> list[str]:
    """How much smaller the cache became, and the weights where they did."""
    tiles = []
    before, after = metrics.get("kv_bytes_per_token_before"), metrics.get("kv_bytes_per_token_measured")
    if before and after and after.value:
        tiles.append(tile(times(before.value / after.value), "smaller KV cache", after.source))
    if linears := linear_savings({name: metric.value for name, metric in metrics.items()}):
        label = term("parameters of linear layers", "weights_keep")
        tiles.append(tile(f"−{percent(linears.share, 1)}", label, metrics["linear_parameters_after"].source))
    decode = [metrics.get(f"decode_flops_{one}") for one in ("before", "after", "context")]
    if decode[0] and decode[1] and decode[2]:
        change = decode[1].value / decode[0].value - 1
        words = f"FLOPs per token at {context(int(decode[2].value))} tokens"
        tiles.append(tile(f"{'+' if change > 0 else '−'}{percent(abs(change), 1)}", words, decode[1].source))
    return tiles


def _quality_tiles(metrics: Metrics) -> list[str]:
    tiles = []
    for name, label, show in (
        ("perplexity_ratio", term("perplexity", "perplexity"), ratio),
        ("kl_to_base", f"{term('KL', 'kl')} to the original, nats", number),
        ("top1_agreement", term("same next token", "top1"), percent),
    ):
        if metric := metrics.get(name):
            tiles.append(tile(show(metric.value), label, metric.source))
    return tiles


def tile(value: str, label: str, kind: str) -> str:
    """One figure with what it is of and where it comes from."""
    return f'<div class="tile"><b>{value}</b><span>{label}</span>{source(kind)}</div>'


def memory_table(metrics: Metrics) -> str:
    """Formula and measurement side by side: they must be equal, red when they are not."""
    formula, measured = (metrics.get(f"kv_bytes_per_token_{one}") for one in ("formula", "measured"))
    if not formula or not measured:
        return ""
    before = metrics.get("kv_bytes_per_token_before")
    agrees = formula.value == measured.value
    tone, words = (
        ("good", "formula and measurement agree") if agrees else ("bad", "these must be equal and are not")
    )
    rows = [("original", f"{integer(before.value)} B", source("calculated"))] if before else []
    rows += [("converted, by formula", f"{integer(formula.value)} B", source("calculated"))]
    rows += [("converted, in a real cache", f"{integer(measured.value)} B", source("measured"))]
    body = "".join(f"<tr><th>{name}</th><td>{value}</td><td>{chip}</td></tr>" for name, value, chip in rows)
    return (
        f'<div class="frame"><table class="pairs"><caption>KV cache per token</caption>{body}</table></div>'
        f'<p class="check check-{tone}">{words}</p>'
    )


def quality_table(metrics: Metrics, made: str = "converted") -> str:
    """What was measured on held-out text, original beside what was made of it."""
    rows = [
        _quality_row(term("perplexity", "perplexity"), metrics, "perplexity_base", "perplexity", number),
        _quality_row(f"perplexity, {made} / original", metrics, None, "perplexity_ratio", ratio),
        _quality_row(term("KL divergence, nats", "kl"), metrics, None, "kl_to_base", number),
        _quality_row("the same, predicted by the profile", metrics, None, "kl_predicted", number),
        _quality_row(term("same next token", "top1"), metrics, None, "top1_agreement", _percent1),
        _quality_row("KL while allocating, predicted", metrics, None, "kl_held_back_predicted", number),
        _quality_row("the same, on held-back text", metrics, None, "kl_held_back", number),
        _quality_row("tokens evaluated", metrics, None, "evaluation_tokens", integer),
        _quality_row("images calibrated on", metrics, None, "calibration_images", integer),
        _quality_row("their tokens", metrics, None, "calibration_image_tokens", integer),
        _quality_row("reloaded, largest logit difference", metrics, None, "logits_difference", number),
        *_linear_rows(metrics),
        _quality_row("parameters", metrics, "parameters_before", "parameters_after", count),
        _quality_row("time of the job", metrics, None, "seconds", duration),
        _quality_row("peak memory of the job", metrics, None, "peak_memory_bytes", size),
    ]
    head = f'<tr><td></td><th class="before">original</th><th class="after">{made}</th><th></th></tr>'
    return framed("quality", "".join(rows), head=head)


def _percent1(value: float) -> str:
    return percent(value, 1)


def _seconds(value: float) -> str:
    return f"{value:.2f}"


def _quality_row(label: str, metrics: Metrics, base: str | None, name: str, show: Any) -> str:
    metric = metrics.get(name)
    if metric is None:
        return ""
    original = metrics.get(base) if base else None
    return (
        f"<tr><th>{label}</th><td>{show(original.value) if original else ''}</td>"
        f"<td>{show(metric.value)}{_span(metrics, name, show)}</td><td>{source(metric.source)}</td></tr>"
    )


def _span(metrics: Metrics, name: str, show: Any) -> str:
    """The ends of the 95 % interval over the windows; nothing where one window was measured."""
    low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
    if low is None or high is None or metrics[name].source != low.source:
        return ""
    return f' <small title="95 % interval over the windows">{show(low.value)} to {show(high.value)}</small>'


def _linear_rows(metrics: Metrics) -> list[str]:
    """What a budget of weights saved; nothing where there was none."""
    found = linear_savings({name: metric.value for name, metric in metrics.items()})
    if found is None:
        return []
    label = term("linear layers, parameters", "weights_keep")
    flops_row = (
        f"<tr><th>linear layers, per token</th><td>{flops(found.flops_before)}</td>"
        f"<td>{flops(found.flops_after)}</td><td>{source('calculated')}</td></tr>"
    )
    numbers = _quality_row(label, metrics, "linear_parameters_before", "linear_parameters_after", count)
    held = metrics.get("decode_flops_context")
    at = f"decoding a token at {context(int(held.value))} tokens" if held else ""
    whole = _quality_row(at, metrics, "decode_flops_before", "decode_flops_after", flops)
    return [numbers, flops_row, whole]


_LAYER_COLUMNS: tuple[tuple[str, str, Any], ...] = (
    ("index", "layer", integer),
    ("kv_lora_rank", "latent", integer),
    ("rotary_numbers", "rotary, cached", integer),
    ("base_numbers", "numbers, original", integer),
    ("cached_numbers", "numbers, converted", integer),
    ("key_error", "error in keys", _percent1),
    ("value_error", "error in values", _percent1),
    ("seconds", "seconds", _seconds),
)


def layer_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Every layer: widths, cached numbers, relative error of what was dropped."""
    if not rows:
        return ""
    # what is cached beside the latent, in whichever way the layout shares it
    rows = [row | {"rotary_numbers": row["cached_numbers"] - row["kv_lora_rank"]} for row in map(dict, rows)]
    shown = [column for column in _LAYER_COLUMNS if column[0] in rows[0]]
    head = "".join(f"<th>{title}</th>" for _, title, _ in shown)
    body = "".join(
        "<tr>" + "".join(f"<td>{_cell(row.get(key), show)}</td>" for key, _, show in shown) + "</tr>"
        for row in rows
    )
    return framed("layers", body, head=f"<tr>{head}</tr>", frame="frame tall")


def _cell(value: Any, show: Any) -> str:
    return show(float(value)) if isinstance(value, int | float) else "–"


def downloads(job_id: str, files: Sequence[StoredArtefact]) -> str:
    """Plain links to the REST routes: the browser resumes them, nothing is copied first."""
    if not files:
        return ""
    base = f"/api/v1/jobs/{escape(job_id)}"
    total = sum(file.size for file in files)
    unit = byte_unit(total)
    rows = "".join(
        f'<tr><td><a href="{base}/files/{quote(file.name)}" download>{escape(file.name)}</a></td>'
        f"<td>{size(file.size)}</td>"
        f'<td><code title="SHA-256 {file.sha256}">{file.sha256[:12]}</code></td></tr>'
        for file in files
    )
    return (
        f'<div class="buttons"><a class="button primary" href="{base}/archive" download>'
        f"Download archive · {size(total, unit)}</a>"
        f'<a class="button" href="{base}/checksums" download>Checksums</a></div>'
        f"<details><summary>{len(files)} files, one by one</summary>{framed('files', rows)}</details>"
        '<p class="caption">Unpack the archive and load the folder with <code>transformers</code>; '
        "the model card inside says how. Broken downloads can be resumed.</p>"
    )
