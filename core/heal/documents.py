# SPDX-License-Identifier: Apache-2.0
"""Where the words come from: named texts, text files, .jsonl, .parquet, or a data set on the Hub."""

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core.calibrate.text import NAMED, check_text, existing_file, read_text
from core.errors import TextError
from core.heal.mix import HUB, Source

_RECORDS = (".jsonl", ".parquet")


def is_records(name: str) -> bool:
    """Whether the text comes in documents, not as one."""
    return name.startswith(HUB) or (name not in NAMED and Path(name).suffix.lower() in _RECORDS)


def check_source(source: Source, field: str) -> None:
    """Raise TextError now if `documents` would fail at once, without reading it all."""
    if source.is_on_hub:
        _need("datasets", f"'{source.name}' is streamed from the Hub")
    elif not is_records(source.name):
        check_text(source.name)
    else:
        next(documents(source, field))


def documents(source: Source, field: str) -> Iterator[str]:
    """The documents of a source in order; `field` is what a record calls its text. Raises TextError."""
    if source.is_on_hub:
        yield from _from_hub(source.name, field)
    elif not is_records(source.name):
        yield read_text(source.name)
    else:
        path = existing_file(source.name)
        if path is None:
            raise TextError(
                f"there is no file '{source.name[:200]}'", hint="check the path", field="heal.text"
            )
        yield from (
            _from_parquet(path, field) if path.suffix.lower() == ".parquet" else _from_jsonl(path, field)
        )


def _from_jsonl(path: Path, field: str) -> Iterator[str]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    record = json.loads(line)
                except ValueError as error:
                    raise TextError(
                        f"line {number} of '{path.name}' is not JSON",
                        hint="every line holds one object",
                        field="heal.text",
                    ) from error
                yield _text_of(record, field, path.name)


def _from_parquet(path: Path, field: str) -> Iterator[str]:
    _need("pyarrow", f"'{path.name}' is a parquet file")
    from pyarrow import parquet

    file: Any = parquet.ParquetFile(path)
    if field not in file.schema_arrow.names:
        raise _no_field(path.name, field, file.schema_arrow.names)
    for batch in file.iter_batches(columns=[field]):
        yield from (str(one) for one in batch.column(0).to_pylist() if one)


def _from_hub(name: str, field: str) -> Iterator[str]:
    """hub:OWNER/NAME, with a configuration behind a #."""
    _need("datasets", f"'{name}' is streamed from the Hub")
    from datasets import load_dataset

    repository, _, configuration = name.removeprefix(HUB).partition("#")
    try:
        records: Any = load_dataset(repository, configuration or None, split="train", streaming=True)
        for record in records:
            yield _text_of(record, field, name)
    except (OSError, ValueError) as error:
        raise TextError(
            f"'{name}' cannot be read: {error}",
            hint="check the name and the network, or give a file",
            field="heal.text",
        ) from error


def _text_of(record: Any, field: str, name: str) -> str:
    if not isinstance(record, dict) or not isinstance(record.get(field), str):
        raise _no_field(name, field, record if isinstance(record, dict) else ())
    return str(record[field])


def _no_field(name: str, field: str, there: Any) -> TextError:
    return TextError(
        f"a record of '{name}' has no text '{field}'",
        hint=f"name the field that holds the text; there are: {', '.join(map(str, there)) or 'none'}",
        field="heal.text_field",
    )


def _need(package: str, why: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise TextError(
            f"{why}, and the package {package} is not installed",
            hint=f"run 'pip install {package}', or give a text or .jsonl file",
            field="heal.text",
        )
