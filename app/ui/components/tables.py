# SPDX-License-Identifier: Apache-2.0
"""A table in a frame of its own: on a narrow screen the frame scrolls, the page does not."""


def framed(kind: str, body: str, *, head: str = "", frame: str = "frame") -> str:
    """`kind` is the CSS class of the table; `head` and `body` are finished rows."""
    top = f"<thead>{head}</thead>" if head else ""
    # whoever has no mouse scrolls with the arrow keys, once the frame has the focus
    return f'<div class="{frame}" tabindex="0"><table class="{kind}">{top}<tbody>{body}</tbody></table></div>'


def labelled(kind: str, value: str) -> str:
    """A cell that says on a narrow screen, where there is no head, what it is; left out there when empty."""
    return f'<td data-label="{kind}">{value}</td>' if value else '<td class="none">–</td>'
