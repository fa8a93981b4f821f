# SPDX-License-Identifier: Apache-2.0
"""The two folders of one run: what can be resumed, and the finished result."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Workspace:
    """`work` holds partial files and survives a crash; `result` appears by one rename at the end."""

    work: Path
    result: Path
