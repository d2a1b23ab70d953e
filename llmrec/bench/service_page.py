"""How soon the page of a service shows its first feed, and another one after a click."""

from __future__ import annotations

import shutil
import statistics
import time
from typing import Any

from llmrec.errors import LlmrecError, one_line, require

FEED = "#feed-items .open"  # a product of the feed
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# A sandbox needs a user of its own; without the others Chromium calls its maker's hosts.
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"),
    *("--disable-component-update", "--no-first-run", "--disable-quic"),
)
_VIEW = {"width": 1280, "height": 900}
# whether the feed is another one, in the page
NOW_ANOTHER = """before => [...document.querySelectorAll('#feed-items .open')]
    .map(one => one.innerText).join('|') !== before"""


def page_times(url: str, times: int) -> dict[str, float]:
    """Medians in a Chromium of this machine, each visit without a cache.

    Args:
        url: of the service.
        times: visits, each of a new person; the first product is opened, and the feed changes
            behind it.

    Returns:
        milliseconds: until the first feed stands on the page, and until it has changed after a
        click.

    Raises:
        LlmrecError: without Chromium, or where the page does not do so.
        MissingExtraError: without Playwright.
    """
    sync_api = require("playwright.sync_api", "dev")
    if CHROMIUM is None:
        raise LlmrecError("no Chromium on this machine; install Debian's package chromium")
    feeds, clicks = [], []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        try:
            for number in range(times + 1):
                first, after = _visit(browser, f"{url}/ui/?user=visitor-{number}")
                feeds.append(first)
                clicks.append(after)
        except sync_api.Error as error:
            raise LlmrecError(f"the page does not answer: {one_line(error)}") from None
        finally:
            browser.close()
    # what is loaded once, of Chromium and of the service, is no visit's own
    return {
        "page_first_feed_p50_ms": statistics.median(feeds[1:]),
        "page_click_to_feed_p50_ms": statistics.median(clicks[1:]),
        "page_first_feed_max_ms": max(feeds[1:]),
        "page_click_to_feed_max_ms": max(clicks[1:]),
    }


def _visit(browser: Any, url: str) -> tuple[float, float]:
    """Milliseconds to the first feed, and from a click to the next."""
    context = browser.new_context(viewport=_VIEW)
    page = context.new_page()
    began = time.perf_counter()
    page.goto(url, wait_until="commit")
    page.wait_for_selector(FEED)
    first = time.perf_counter() - began
    before = "|".join(page.locator(FEED).all_inner_texts())
    began = time.perf_counter()
    page.locator(FEED).first.click()
    page.wait_for_function(NOW_ANOTHER, arg=before, polling=5)
    after = time.perf_counter() - began
    context.close()
    return 1e3 * first, 1e3 * after
