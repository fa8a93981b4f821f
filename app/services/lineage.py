# SPDX-License-Identifier: Apache-2.0
"""What sets a request apart from the job it was cloned from."""

from app.services.requests import find_job
from app.services.spec_diff import SpecChange, diff_specs
from app.services.text_names import friendly
from app.services.workbench import Workbench
from core.spec import JobSpec


def differs_from(workbench: Workbench, parent_id: str, spec: JobSpec) -> list[SpecChange]:
    """Every field in which `spec` is not the parent's; raises NotFoundError when that was deleted.

    Uploads go by their names on both sides: a path that stands for the same text is no difference.
    """
    before = find_job(workbench, parent_id).spec
    return diff_specs(friendly(workbench.settings, before), friendly(workbench.settings, spec))
