# SPDX-License-Identifier: Apache-2.0
"""docs/features.md promises nothing that no test shows: every mark of ours leads to a test there is."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROWS = re.findall(
    r"^\| (\d+) \| [^|]+ \| ([^|]+) \|", (ROOT / "docs/features.md").read_text("utf-8"), re.MULTILINE
)


def test_every_row_of_the_table_is_there_once() -> None:
    assert [int(number) for number, _ in ROWS] == list(range(1, 55))


def test_every_mark_leads_to_a_test_there_is() -> None:
    wrong = []
    for number, cell in ROWS:
        if cell.strip() == "○":
            continue
        link = re.fullmatch(r'\[[●◐]\]\(\.\./(tests/\S+\.py) "(test_\w+)"\)', cell.strip())
        if link is None or f"def {link[2]}(" not in (ROOT / link[1]).read_text("utf-8"):
            wrong.append((number, cell))
    assert not wrong
