# SPDX-License-Identifier: Apache-2.0
"""docs/features.md promises nothing that no test shows: marks of ours and rules lead to tests there are."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FEATURES, _, RULES = (ROOT / "docs/features.md").read_text("utf-8").partition("## Rules of the page")
ROW = re.compile(r"^\| (\d+) \| [^|]+ \| ([^|]+) \|", re.MULTILINE)
LINK = re.compile(r'\[([^\]]+)\]\(\.\./(tests/\S+\.py) "(test_\w+)"\)')


def is_there(path: str, name: str) -> bool:
    return f"def {name}(" in (ROOT / path).read_text("utf-8")


@pytest.mark.parametrize(("table", "count"), [(FEATURES, 54), (RULES, 12)], ids=["features", "rules"])
def test_every_row_of_a_table_is_there_once(table: str, count: int) -> None:
    assert [int(number) for number, _ in ROW.findall(table)] == list(range(1, count + 1))


def test_every_mark_leads_to_a_test_there_is() -> None:
    wrong = []
    for number, cell in ROW.findall(FEATURES):
        if cell.strip() == "○":
            continue
        link = LINK.fullmatch(cell.strip())
        if link is None or link[1] not in "●◐" or not is_there(link[2], link[3]):
            wrong.append((number, cell))
    assert not wrong


def test_every_rule_leads_to_tests_there_are() -> None:
    wrong = []
    for number, cell in ROW.findall(RULES):
        links = [LINK.fullmatch(one) for one in cell.strip().split(" · ")]
        if not all(link and is_there(link[2], link[3]) for link in links):
            wrong.append((number, cell))
    assert not wrong
