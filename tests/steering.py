# SPDX-License-Identifier: Apache-2.0
"""What a person does in the tuning view of a real browser, and what it says of itself."""

import json

from playwright.sync_api import Locator, Page


def bar(page: Page, layer: int) -> Locator:
    return page.locator(f".lb-bar[data-layer='{layer}']")


def ranks(page: Page) -> list[int]:
    """What the bars say to a screen reader."""
    said = page.locator(".lb-bar").evaluate_all("bars => bars.map(bar => bar.getAttribute('aria-valuenow'))")
    return [int(one) for one in said]


def pull(page: Page, layer: int, up: int) -> None:
    """Drag a bar with the mouse."""
    bar(page, layer).scroll_into_view_if_needed()
    x, y = _middle(bar(page, layer))
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x, y - up, steps=5)
    page.mouse.up()


def swipe(page: Page, layer: int, up: int) -> None:
    """Drag a bar with a finger: what the browser makes of a touch, scrolling included."""
    x, y = _middle(bar(page, layer))
    screen = page.context.new_cdp_session(page)
    for kind, places in (
        ("touchStart", [y]),
        *(("touchMove", [y - up * step / 5]) for step in range(1, 6)),
        ("touchEnd", []),
    ):
        points = [{"x": x, "y": place} for place in places]
        screen.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    screen.detach()


def outlined(page: Page) -> list[list[list[int]]]:
    """The pairs that the heatmap outlines, as it says them to the page: layers x rows x pairs."""
    return json.loads(page.locator(".pm").get_attribute("data-kept") or "[]")


def click_pair(page: Page, layer: int, pair: int) -> None:
    """Where the heatmap has that cell."""
    left, top = page.locator(".pm").evaluate("(e, at) => e.placeOf(...at)", [layer, pair])
    page.mouse.click(left, top)


def _middle(one: Locator) -> tuple[float, float]:
    box = one.bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
