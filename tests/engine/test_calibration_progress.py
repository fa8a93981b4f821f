# SPDX-License-Identifier: Apache-2.0
"""The calibrating stage counts every step it announced, forward and backward, also when it is continued."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cancelling import CancelAfter

from core.errors import Cancelled
from core.spec import JobSpec, Recipe

LAYERS = 4
WITH_GRADIENTS = Recipe(layout="pre-rope", factor_input="root-covariance", factor_output="fisher")


@pytest.mark.parametrize(
    ("recipe", "steps"), [(Recipe(), LAYERS), (WITH_GRADIENTS, 2 * LAYERS + 1)], ids=["forward", "backward"]
)
def test_every_step_is_counted(
    recipe: Recipe,
    steps: int,
    tiny_checkpoint: Path,
    tiny_spec: Callable[..., JobSpec],
    convert_to: Callable[..., Any],
) -> None:
    """A recipe that looks at gradients takes the head and every layer once more; others skip that pass."""
    spec = tiny_spec(tiny_checkpoint).model_copy(update={"recipe": recipe})
    _, sink = convert_to(spec)
    (stage,) = (event for event in sink.of("stage") if event.stage == "calibrating")
    assert (stage.total, stage.finished) == (steps, 0)
    progress = [event for event in sink.of("progress") if event.stage == "calibrating"]
    assert [(event.done, event.total) for event in progress] == [(i + 1, steps) for i in range(steps)]
    assert all(event.message for event in progress)
    assert sum("backwards" in event.message for event in progress) == steps - LAYERS


def test_a_continued_backward_pass_starts_counting_again_and_ends_at_the_total(
    tiny_checkpoint: Path, tiny_spec: Callable[..., JobSpec], convert_to: Callable[..., Any], tmp_path: Path
) -> None:
    spec = tiny_spec(tiny_checkpoint).model_copy(update={"recipe": WITH_GRADIENTS})
    with pytest.raises(Cancelled):
        convert_to(spec, "out", CancelAfter(LAYERS + 5))
    files = {file: file.stat().st_mtime_ns for file in (tmp_path / "out.partial" / "statistics").iterdir()}
    kept = {file: time for file, time in files.items() if file.name.startswith("fisher")}
    assert 0 < len(kept) < LAYERS  # stopped in the middle of the backward pass
    seen: list[tuple[Path, int]] = []

    class Watch:
        """At every later step the finished ones are still the same files."""

        def check(self) -> None:
            seen.extend((file, file.stat().st_mtime_ns) for file in kept if file.exists())

    _, sink = convert_to(spec, "out", Watch())
    progress = [event.done for event in sink.of("progress") if event.stage == "calibrating"]
    assert progress == list(range(1, 2 * LAYERS + 2))
    (stage,) = (event for event in sink.of("stage") if event.stage == "calibrating")
    # every layer forward, the head, and the layers that were kept: the estimate of the rest leaves them out
    assert stage.finished == LAYERS + 1 + len(kept)
    assert seen
    assert all(kept[file] == time for file, time in seen)
