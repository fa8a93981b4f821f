# SPDX-License-Identifier: Apache-2.0
"""What nobody measured of a conversion, in sentences: found by looking at what there is."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from app.services.roots import JOB
from core.facts import ModelFacts
from core.store.views import JobView

# half of an interval, as a share of the ratio: models that differ by less cannot be ranked by it
_SHARP = 0.02
# a share of so many questions is known to about 15 points
_MANY_QUESTIONS = 40
# quotations and tables that two texts share by themselves stay below it
SEEN = 0.01


def unmeasured(
    job: JobView, tables: Mapping[str, Any], facts: ModelFacts | None, shares: Sequence[float | None]
) -> list[str]:
    """One sentence for each gap; rows of other models do not fill it."""
    own = f"{JOB}{job.id}"
    texts = [row for row in tables["texts"] if row["model"] == own]
    retrieval = [row for row in tables["retrieval"] if row["model"] == own]
    return [
        *_of_texts(texts, facts),
        *_of_overlap(shares),
        *_of_retrieval(retrieval),
        *_of_the_rest(job, any(row["model"] == own for row in tables["harness"])),
    ]


def _of_texts(rows: Sequence[Mapping[str, Any]], facts: ModelFacts | None) -> Iterator[str]:
    if not rows:
        yield "Quality: no text was read with both models, so nothing is known of what the conversion lost."
        return
    names = {row["text"] for row in rows}
    if len(names) == 1:
        yield f"Other texts: all was measured on {_named(*names)}. Other domains usually lose more."
    yield from _of_intervals(rows)
    longest = max(row["context"] for row in rows)
    if facts is not None and longest < facts.max_context:
        yield (
            f"Long contexts: no text was read beyond {longest:,} tokens; the model reads up to "
            f"{facts.max_context:,}."
        )
    if not any(len(row.get("by_position") or ()) > 1 for row in rows):
        yield "By position: whether it gets worse far from the start of a window was not looked at."


def _of_intervals(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The widest interval of all, when a ranking by it would be luck."""
    alone = [row for row in rows if row.get("paired") is None]
    if alone:
        texts = ", ".join(dict.fromkeys(_named(row["text"]) for row in alone))
        yield f"Intervals: figures on {texts} have none, so how far they can be trusted is not known."
    known = [row for row in rows if row.get("paired") is not None]
    if not known:
        return
    widest = max(known, key=lambda row: _width(row["paired"]))
    ratio = widest["paired"]["perplexity_ratio"]
    if _width(widest["paired"]) > _SHARP * ratio["value"]:
        yield (
            f"A sharper figure: {widest['windows']} windows of {_named(widest['text'])} leave the perplexity "
            f"ratio anywhere from {ratio['low']:.3f} to {ratio['high']:.3f}. More windows narrow it."
        )
    yield "Other passages: windows follow each other in one text, so intervals speak of that text only."


def _width(paired: Mapping[str, Any]) -> float:
    ratio = paired["perplexity_ratio"]
    return float(ratio["high"] - ratio["low"]) / 2


def _of_overlap(shares: Sequence[float | None]) -> Iterator[str]:
    if any(one is not None and one > SEEN for one in shares):
        yield "An unseen text: part of what it was measured on had been seen before, which flatters it."
    if any(one is None for one in shares):
        yield (
            "Overlap: not every text it was made from could be compared with those it was measured on; what "
            "is in both flatters it."
        )


def _of_retrieval(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not rows:
        yield "Retrieval: whether it finds what stands far back was not asked."
        return
    fewest = min(row["samples"] for row in rows)
    if fewest < _MANY_QUESTIONS:
        yield f"Retrieval, sharply: {fewest} questions of a task leave a share open by {_spread(fewest)}."


def _spread(samples: int) -> str:
    """Half of Wilson's interval where it is widest."""
    return f"up to ± {98 / (samples + 3.84) ** 0.5:.0f} points"


def _of_the_rest(job: JobView, has_harness: bool) -> Iterator[str]:
    if not has_harness:
        yield "Benchmarks: no task of lm-eval was run."
    if "kl_predicted" not in job.metrics:
        yield "A prediction: no profile of the model said before what it would lose."
    if job.spec.calibration.sampling == "spread":
        seed = job.spec.calibration.seed
        yield f"Other draws: one conversion, calibration seed {seed}; what another changes is unknown."
    yield "Speed: no tokens per second were timed in this job, neither on a CPU nor on a GPU."
    yield "People: nobody judged what it writes. Chat puts its answers beside the original's."


def _named(name: str) -> str:
    return name.rstrip("/").rsplit("/", maxsplit=1)[-1]
