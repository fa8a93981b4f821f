# SPDX-License-Identifier: Apache-2.0
"""Texts to calibrate and evaluate on: named ones that need no network, or a UTF-8 file. No torch."""

import bz2
import pydoc_data.topics
import re
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from xml.etree import ElementTree

from core.errors import TextError

# the articles are split by number: the first part may be calibrated on, the rest is held out
CALIBRATION_ARTICLES = 60
_WIKI = "test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
_NEWS = "test_data/lee_background.cor"
# what a named text is read from, where that is a file of another package
_MEMBERS = {"wikipedia": _WIKI, "wikipedia-heldout": _WIKI, "news": _NEWS}
# a name is asked of the file system for every way to read its plus signs
_MOST_TEXTS = 16


def is_picture_file(name: str) -> bool:
    """Whether what is called `name` has images in it (core/calibrate/pictures.py)."""
    return name.lower().endswith(".jsonl")


def read_text(name: str) -> str:
    """The text called `name`, or the UTF-8 file at that path.

    Raises TextError when it is missing, empty, not text alone, or no text.
    """
    if name in NAMED:
        return NAMED[name][1]()
    path = existing_file(name)
    if path is None:
        raise TextError(
            f"there is no text '{name[:200]}'",
            hint=f"give a UTF-8 text file or one of: {', '.join(NAMED)}",
            field="text",
        )
    if is_picture_file(name):
        raise TextError(
            f"'{path.name}' has images in it, and only calibration looks at images",
            hint="give a plain text file",
            field="text",
        )
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise TextError(
            f"'{path.name}' is not UTF-8 text", hint="give a plain text file", field="text"
        ) from error
    except OSError as error:
        raise TextError(f"'{path.name}' cannot be read: {error.strerror}", field="text") from error
    if "\0" in text:
        raise TextError(f"'{path.name}' is a binary file", hint="give a plain text file", field="text")
    if not text.strip():
        raise TextError(f"'{path.name}' is empty", hint="give a file with some thousand words", field="text")
    return text


def text_parts(name: str) -> tuple[str, ...]:
    """The texts that `name` mixes: "wikipedia+news" is two; a plus inside a file's path joins nothing."""
    pieces = name.split("+")
    if len(pieces) > _MOST_TEXTS:
        return (name,)
    parts: list[str] = []
    while pieces:
        prefixes = {size: "+".join(pieces[:size]) for size in range(len(pieces), 0, -1)}
        known = (size for size, part in prefixes.items() if part in NAMED or existing_file(part))
        size = next(known, 1)
        parts.append(prefixes[size])
        pieces = pieces[size:]
    return tuple(parts)


def existing_file(name: str) -> Path | None:
    """The file at that path; None for whatever is no file or cannot be one."""
    try:
        path = Path(name).expanduser()
        return path if path.is_file() else None
    except (OSError, RuntimeError, ValueError):  # a name the system cannot have, the home of nobody
        return None


def check_text(name: str) -> None:
    """Raise TextError now if `read_text(name)` would fail later."""
    if name in _MEMBERS:
        # a form asks while it opens: the articles are a second's work to unpack
        _gensim_file(_MEMBERS[name])
    else:
        read_text(name)


def _articles(first: int, last: int | None) -> str:
    path = _gensim_file(_WIKI)
    with bz2.open(path) as stream:
        plain = [_strip_markup(raw) for raw in _wiki_pages(stream)]
    return "\n\n".join(plain[first:last])


def _wiki_pages(stream: bz2.BZ2File) -> Iterator[str]:
    """Wiki source of every page of the dump, one page in memory."""
    for _, element in ElementTree.iterparse(stream):
        if element.tag.endswith("}text") and element.text and not element.text.startswith("#REDIRECT"):
            yield element.text
        if element.tag.endswith("}page"):
            element.clear()


def _strip_markup(source: str) -> str:
    """Readable prose of one article: templates, tables, references and link syntax removed."""
    text = re.sub(r"<!--.*?-->|<ref[^>/]*/>|<ref.*?</ref>|<math.*?</math>", "", source, flags=re.S)
    for pattern in (r"\{\{[^{}]*\}\}", r"\{\|[^{}]*?\|\}"):
        for _ in range(6):  # templates and tables nest
            text = re.sub(pattern, "", text, flags=re.S)
    text = re.sub(r"\[\[(?:File|Image|Category):[^\[\]]*(?:\[\[[^\[\]]*\]\][^\[\]]*)*\]\]", "", text)
    text = re.sub(r"\[\[(?:[^\[\]|]*\|)?([^\[\]|]*)\]\]", r"\1", text)
    text = re.sub(r"\[https?://\S+ ?([^\]]*)\]", r"\1", text)
    text = re.sub(r"<[^>]+>|'{2,}|&nbsp;|__\w+__", " ", text)
    text = re.sub(r"^[=*#:;|!{}].*$", "", text, flags=re.M)
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+", " ", text)).strip()


def _gensim_file(member: str) -> Path:
    try:
        files = distribution("gensim").files or []
    except PackageNotFoundError as error:
        raise TextError(
            "the sample articles are not installed",
            hint="run 'pip install --no-deps gensim' (or 'make install'), or give a file or python-docs",
            field="text",
        ) from error
    found = [Path(str(file.locate())) for file in files if str(file).endswith(member)]
    if not found:
        raise TextError("this gensim carries no sample articles", hint="give a text file", field="text")
    return found[0]


def _news() -> str:
    return _gensim_file(_NEWS).read_text(encoding="utf-8")


def _python_docs() -> str:
    return "\n\n".join(pydoc_data.topics.topics.values())


NAMED: Mapping[str, tuple[str, Callable[[], str]]] = {
    "wikipedia": (
        f"{CALIBRATION_ARTICLES} Wikipedia articles, for calibration",
        lambda: _articles(0, CALIBRATION_ARTICLES),
    ),
    "wikipedia-heldout": (
        "the other Wikipedia articles, never calibrated on",
        lambda: _articles(CALIBRATION_ARTICLES, None),
    ),
    "news": ("300 news reports, another domain", _news),
    "python-docs": ("the Python manual, always there", _python_docs),
}
