# SPDX-License-Identifier: Apache-2.0
"""A real broker, a real worker and real child processes; nothing is simulated but the size of the model."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.settings import Settings
from core.spec import Calibration, JobSpec
from core.store.views import JobView
from tests.workers.worker_stack import LAYERS, Stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    home = tmp_path_factory.mktemp("workers")
    stack = Stack(Settings(data_dir=home, lease_seconds=3.0, heartbeat_seconds=0.5, threads=1))
    yield stack
    stack.close()


@pytest.fixture(scope="session")
def spec(tiny_llama: Callable[..., Path], sample_text: Path) -> JobSpec:
    """Enough small layers that a conversion can be caught in the middle."""
    model = tiny_llama(num_hidden_layers=LAYERS, hidden_size=128)
    return JobSpec(
        model=str(model),
        calibration=Calibration(text=str(sample_text), tokens=2048, context=64),
        evaluation=None,
    )


@pytest.fixture(scope="session")
def undisturbed(stack: Stack, spec: JobSpec) -> JobView:
    """The same conversion with nothing in its way, rung three times."""
    job_id = stack.submit(spec)
    stack.bell.ring(job_id)
    stack.bell.ring(job_id)
    return stack.ended(job_id)
