# SPDX-License-Identifier: Apache-2.0
"""Tokens per second of a healing step against the plain one, side by side in one run on the demo model.

Plain: teacher and student in float32, both with all their logits, `kl_div`, backward, AdamW. Ours: what the
teacher said comes from the cache, logits exist in blocks with their gradient in closed form, products in
bfloat16 where the processor has them. Both train the attention's weights on the same windows and take turns,
so that a busy machine slows them alike; medians. The first time the teacher is asked counts, too.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from core.calibrate.text import read_text
from core.calibrate.tokens import tokenize
from core.devices import choose_device
from core.engine import convert
from core.evaluate import load_model
from core.events import NeverCancel, NullSink
from core.heal.cache import TeacherCache
from core.heal.feed import Feed
from core.heal.precision import chosen_dtype, freeze_in
from core.heal.spec import Healing
from core.heal.student import Student
from core.heal.teacher import Teacher
from core.heal.trainable import choose_trainable
from core.presets import spec_from_preset
from core.settings import Settings
from core.workspace import Workspace

ROUNDS, WARM_UP, WINDOWS, CONTEXT = 5, 1, 4, 256
DEVICE = torch.device("cpu")
Step = Callable[[], None]


@pytest.fixture(scope="module")
def converted(demo_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """How much was lost makes no difference to the time of a step."""
    folder = tmp_path_factory.mktemp("demo")
    spec = spec_from_preset("mha2mla", calibration={"tokens": 1024, "text": "python-docs"})
    workspace = Workspace(folder / "work", folder / "out")
    convert(spec.model_copy(update={"evaluation": None}), workspace, NullSink(), NeverCancel(), demo_settings)
    return workspace.result


def plain(base: Path, folder: Path, windows: Tensor) -> Step:
    teacher = load_model(base, dtype=torch.float32, device=DEVICE).requires_grad_(False)
    model = load_model(folder, dtype=torch.float32, device=DEVICE)
    learning = choose_trainable(model, Healing(source="."))
    optimizer = torch.optim.AdamW(learning.values())

    def step() -> None:
        with torch.no_grad():
            wanted = teacher(windows.long(), use_cache=False).logits.flatten(0, 1)
        given = model(windows.long(), use_cache=False).logits.flatten(0, 1)
        loss = F.kl_div(given.log_softmax(-1), wanted.log_softmax(-1), log_target=True, reduction="batchmean")
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def ours(base: Path, folder: Path, windows: Tensor, home: Path) -> tuple[Step, Step]:
    """(asking the teacher, one step)."""
    healing = Healing(source=".")
    dtype = chosen_dtype("auto", choose_device("cpu"))
    teacher, cache = Teacher(base, DEVICE, dtype), TeacherCache(home, CONTEXT)
    cache.add(windows, teacher.targets(windows, healing.top_k, 1.0))
    model: Any = load_model(folder, dtype=torch.float32, device=DEVICE)
    learning = choose_trainable(model, healing)
    student = Student(model, healing, dtype)
    freeze_in(model, dtype)
    feed = Feed(healing, DEVICE, cache, None)
    optimizer = torch.optim.AdamW(learning.values())

    def ask() -> None:
        teacher.targets(windows, healing.top_k, 1.0)

    def step() -> None:
        lesson = feed.lesson(windows)
        student(lesson.ids, lesson.targets).loss.backward()
        torch.nn.utils.clip_grad_norm_(list(learning.values()), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return ask, step


def test_steps_side_by_side(demo_settings: Settings, converted: Path, tmp_path: Path) -> None:
    base = demo_settings.models_dir / "SmolLM2-135M-Instruct"
    tokens = tokenize(base, read_text("python-docs"))[: WINDOWS * CONTEXT]
    windows = tokens.view(WINDOWS, CONTEXT).to(torch.int32)
    ask, step = ours(base, converted, windows, tmp_path)
    steps = {"plain": plain(base, converted, windows), "ours": step, "asking the teacher": ask}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(WARM_UP + ROUNDS):
        for name, run in steps.items():
            started = time.perf_counter()
            run()
            if turn >= WARM_UP:
                seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    print(f"\n{torch.get_num_threads()} threads, {WINDOWS} x {CONTEXT} tokens a step")
    for name, found in medians.items():
        print(f"{name:20} {found:6.2f} s  {windows.numel() / found:7.0f} tokens/s")
    print(f"ours is {medians['plain'] / medians['ours']:.1f} times as fast from the cache")
    with_teacher = medians["ours"] + medians["asking the teacher"]
    print(f"and {medians['plain'] / with_teacher:.1f} times with asking the teacher")
