# SPDX-License-Identifier: Apache-2.0
"""lm-evaluation-harness on models in memory: the paper's tasks by name, or a folder of tasks with local data.

It is an extra: `pip install 'mla-workbench[eval]'`.
"""

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from core.errors import SpecError

# MHA2MLA, table 1: MMLU, ARC, PIQA, HellaSwag, OpenBookQA, Winogrande; and its long-context benchmark
SETS: Mapping[str, tuple[str, ...]] = {
    "commonsense": (
        "mmlu_continuation",
        "arc_easy",
        "arc_challenge",
        "piqa",
        "hellaswag",
        "openbookqa",
        "winogrande",
    ),
    "longbench": ("longbench",),
}
# the first of these that a task reports is its score
_METRICS = ("acc_norm", "acc", "exact_match", "score", "f1")


def tasks_of(asked: Sequence[str]) -> tuple[str, ...]:
    """Task names, the sets spelled out."""
    return tuple(task for name in asked for task in SETS.get(name, (name,)))


def check_harness(tasks: Sequence[str], folder: Path | None) -> None:
    """Raise SpecError when lm-eval is not installed, or does not know a task."""
    manager = _manager(folder)
    known = set(manager.all_tasks)
    for task in tasks:
        if task not in known:
            raise SpecError(
                f"lm-eval knows no task '{task}'",
                hint="'lm-eval ls tasks' lists them; harness_folder adds a folder of your own",
                field="evaluate.harness",
            )


def run_harness(
    model: Any, tokenizer: Any, task: str, folder: Path | None, limit: int | None
) -> dict[str, Any]:
    """One task on a model in memory: {metric, value, samples, scores}, scores of every question in order.

    A group of tasks has its own mean and no scores. Raises SpecError when lm-eval is missing, or cannot load
    the task's data.
    """
    manager = _manager(folder)
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    try:
        found = simple_evaluate(
            model=HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1),
            tasks=[task],
            limit=limit,
            task_manager=manager,
            bootstrap_iters=0,
        )
    except (OSError, ValueError) as error:
        raise SpecError(
            f"lm-eval cannot run '{task}': {error}",
            hint="its data is fetched from the Hub: check the network, or give local data in harness_folder",
            field="evaluate.harness",
        ) from error
    return read_results(task, found)


def read_results(task: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """The score of a task, of all that lm-eval reports."""
    results: Mapping[str, Any] = found["results"][task]
    by_metric = {name.partition(",")[0]: name for name in results if isinstance(results[name], int | float)}
    metric = next((one for one in _METRICS if one in by_metric), None)
    if metric is None:
        known = ", ".join(one for one in by_metric if not one.endswith("_stderr"))
        raise SpecError(
            f"'{task}' reports none of {', '.join(_METRICS)}, but {known or 'nothing'}",
            hint="choose a task with one of these metrics",
            field="evaluate.harness",
        )
    answers = sorted(found.get("samples", {}).get(task, ()), key=lambda one: one["doc_id"])
    scores = [float(one[metric]) for one in answers if metric in one]
    counts = found.get("n-samples", {}).values()
    samples = len(scores) or sum(int(one["effective"]) for one in counts)
    return {
        "metric": metric,
        "value": float(results[by_metric[metric]]),
        "samples": samples,
        "scores": scores,
    }


def _manager(folder: Path | None) -> Any:
    try:
        version("lm-eval")
        from lm_eval.tasks import TaskManager
    except (PackageNotFoundError, ImportError) as error:
        raise SpecError(
            f"lm-eval is not installed, or only in part: {error}",
            hint="run \"pip install 'mla-workbench[eval]'\"",
            field="evaluate.harness",
        ) from error
    return TaskManager(include_path=str(folder) if folder else None)
