# SPDX-License-Identifier: Apache-2.0
"""Which models a user is likely to want next."""

from app.services.workbench import Workbench
from core.weights.locate import DEMO


def recent_models(workbench: Workbench, limit: int = 12) -> list[str]:
    """The demo, then what was converted lately."""
    used = [model for model in workbench.store.recent_models(limit) if model != DEMO]
    return [DEMO, *used]
