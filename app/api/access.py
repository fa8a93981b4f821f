# SPDX-License-Identifier: Apache-2.0
"""How a route reaches the workbench it belongs to."""

from typing import Annotated

from fastapi import Depends, Request

from app.services.workbench import Workbench


def _workbench(request: Request) -> Workbench:
    workbench = request.app.state.workbench
    assert isinstance(workbench, Workbench)
    return workbench


Bench = Annotated[Workbench, Depends(_workbench)]
