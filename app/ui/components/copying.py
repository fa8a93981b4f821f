# SPDX-License-Identifier: Apache-2.0
"""The same job elsewhere: command line, HTTP, recipe file."""

from html import escape

from app.services.copy_as import as_command, as_curl, as_recipe, as_yaml
from core.spec import JobSpec

_COPY = (
    "const b=this,t=b.parentElement.querySelector('pre').innerText;"
    "navigator.clipboard.writeText(t).then(()=>{b.innerText='copied';"
    "setTimeout(()=>{b.innerText='copy'},1200)})"
)


def copy_as(spec: JobSpec | None, origin: str) -> str:
    """Blocks that open on demand, with `origin` as the server's address; empty without a spec."""
    if spec is None:
        return ""
    blocks = (
        ("CLI", as_command(spec)),
        ("curl", as_curl(spec, origin)),
        ("YAML", as_yaml(spec)),
        ("JSON", as_recipe(spec)),
    )
    return '<div class="copying"><span>Copy as</span>' + "".join(_block(*one) for one in blocks) + "</div>"


def _block(name: str, text: str) -> str:
    return (
        f"<details name='copy-as'><summary>{name}</summary><div class='frame'><pre>{escape(text)}</pre>"
        f'<button type="button" class="copy" onclick="{escape(_COPY)}">copy</button></div></details>'
    )
