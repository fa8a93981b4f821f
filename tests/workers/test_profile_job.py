# SPDX-License-Identifier: Apache-2.0
"""A profile goes through broker, worker and record as a conversion does."""

from pathlib import Path

import pytest

from core.profiles import FILE, newest_profile
from core.spec import Calibration, JobSpec
from core.store.views import State
from tests.workers.worker_stack import Stack

pytestmark = pytest.mark.process


def test_a_profile_is_a_job_like_any_other(stack: Stack, tiny_checkpoint: Path, sample_text: Path) -> None:
    calibration = Calibration(text=str(sample_text), tokens=512, context=64)
    spec = JobSpec(kind="profile", model=str(tiny_checkpoint), calibration=calibration)
    job = stack.ended(stack.submit(spec))
    assert job.state is State.DONE, job.reason + job.log_tail
    assert job.metrics["calibrated_tokens"] == 512
    assert job.metrics["profile_spread_fast"] >= 1
    assert [one.name for one in stack.store.artefacts(job.id)] == [FILE]
    found = newest_profile(stack.settings.home, str(tiny_checkpoint))
    assert found is not None
    assert (stack.result(job.id) / FILE).read_text() == found.model_dump_json()
