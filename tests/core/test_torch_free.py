# SPDX-License-Identifier: Apache-2.0
"""What the web process and `inspect` import must stay free of torch: it costs seconds and gigabytes."""

import subprocess
import sys
from pathlib import Path

import pytest

MODULES = (
    "core.facts",
    "core.planning",
    "core.presets",
    "core.spec",
    "core.stages",
    "core.kv_budget",
    "core.kinds",
    "core.allocate",
    "core.decode_cost",
    "core.foresight",
    "core.target",
    "core.chat.naming",
    "core.weights.locate",
    "core.calibrate.text",
    "app.cli.main",
)


@pytest.mark.parametrize("heavy", ["torch", "transformers"])
def test_facts_and_plans_do_not_import(heavy: str) -> None:
    """All modules in one fresh process; the loop names the first one that is to blame."""
    code = (
        "import importlib, sys\n"
        f"for name in {MODULES!r}:\n"
        "    importlib.import_module(name)\n"
        f"    assert {heavy!r} not in sys.modules, name\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
