# SPDX-License-Identifier: Apache-2.0
"""A served workbench with its own data folder and port."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.settings import Settings
from tests.serve.serving import Serving


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, demo_settings: Settings) -> Path:
    """A data folder in which the demo is prepared already."""
    home = tmp_path_factory.mktemp("serve")
    (home / "models").symlink_to(demo_settings.models_dir)
    return home


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[Settings], Serving]]:
    """Start `serve` with these settings; it is ended with the test."""
    started: list[Serving] = []

    def start(settings: Settings) -> Serving:
        started.append(Serving(settings, tmp_path / f"serve-{len(started)}.txt"))
        return started[-1]

    yield start
    for serving in started:
        serving.close()
