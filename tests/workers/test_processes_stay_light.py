# SPDX-License-Identifier: Apache-2.0
"""Torch lives in the child alone: a process that forks, or serves pages, must not have it."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "modules",
    [
        "workers.celery_app, workers.tasks",
        "workers.chat_app, workers.chat_tasks",
        "app.services.bell",
        "app.serve",
    ],
)
def test_torch_is_not_imported(modules: str) -> None:
    code = f"import sys, {modules}; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
