"""The page in a real Chromium: what a person sees and does there."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from scripted_model import ScriptedModel, call
from searchable_shop import installed_whisper, picture
from server import served

from llmrec.bench.service_page import CHROMIUM, FEED, FLAGS, NOW_ANOTHER, page_times
from llmrec.data.dataset import Dataset
from llmrec.serving.app import create_app
from llmrec.serving.bundle import Bundle
from llmrec.serving.history import dataset_histories
from llmrec.serving.live import LiveHistories
from llmrec.serving.page_api import Pictures
from llmrec.serving.recommender import Recommender
from llmrec.serving.settings import ServiceConfig
from llmrec.serving.store.database import Store

sync_api = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium; install Debian's package chromium"
)
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
# A microphone that hears a file.
RECORDED = """sound => {
  const bytes = Uint8Array.from(atob(sound), (letter) => letter.charCodeAt(0));
  navigator.mediaDevices.getUserMedia = async () => ({ getTracks: () => [{ stop() {} }] });
  window.MediaRecorder = class {
    start() {}
    stop() { this.ondataavailable({ data: new Blob([bytes], { type: "audio/wav" }) }); }
  };
}"""


@pytest.fixture(scope="module")
def address(
    tiny_run: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, list[str]]]:
    """Of a service with a graph that counts events, and the names of its people."""
    bundle, dataset = Bundle(tiny_run.bundle("atomic")), Dataset(tiny_run.folder / "dataset")
    file = tmp_path_factory.mktemp("page") / "store.sqlite"
    with Store(f"sqlite:///{file}") as store:
        live = LiveHistories(store, bundle, dataset_histories(dataset))
        recommender = Recommender.load(bundle, histories=live.history, attributes=live.attributes)
        app = create_app(recommender, live, None, Pictures(bundle, None), dataset.user_ids)
        with served(app) as url:
            yield f"{url}/ui/", dataset.user_ids


@pytest.fixture
def talking(tiny_run: Any, searchable: Path, tmp_path: Path) -> Iterator[tuple[str, ScriptedModel]]:
    """The address of a page with an assistant, and who decides what it does."""
    bundle, model = Bundle(tiny_run.bundle("atomic")), ScriptedModel()
    with Store(f"sqlite:///{tmp_path / 'store.sqlite'}") as store:
        live = LiveHistories(store, bundle)
        recommender = Recommender.load(bundle, histories=live.history, search=searchable)
        config = ServiceConfig(speech_model=installed_whisper())
        app = create_app(recommender, live, config, minds=[model])
        with served(app) as url:
            yield f"{url}/ui/", model


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any, address: tuple[str, list[str]]) -> Iterator[Any]:
    """The feed of the first of the people; no request may have left for another host."""
    opened = browser.new_page(viewport=WIDE)
    hosts, problems = set(), []
    opened.on("request", lambda request: hosts.add(request.url.split("/")[2]))
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.goto(address[0])
    opened.wait_for_selector(FEED)
    yield opened
    opened.close()
    assert hosts == {address[0].split("/")[2]}
    assert problems == []


def feed(page: Any) -> list[str]:
    return list(page.locator(FEED).all_inner_texts())


def changed(page: Any, before: list[str]) -> None:
    """Waits until the feed is another one."""
    page.wait_for_function(NOW_ANOTHER, arg="|".join(before))


def findings(page: Any) -> list[str]:
    """What axe-core finds wrong, and where."""
    found = axe.Axe().run(page).response["violations"]
    return [f"{one['id']}: {one['nodes'][0]['target']}" for one in found]


def test_the_feed_is_that_of_the_person_and_says_why(
    page: Any, address: tuple[str, list[str]]
) -> None:
    assert page.locator("[data-person]").inner_text() == address[1][0]
    assert len(feed(page)) == 12
    page.locator("#feed-items summary").first.click()
    reasons = page.locator("#feed-items .card").first.inner_text()
    assert "Rank" in reasons and "History read" in reasons
    page.wait_for_selector("#history li")
    assert findings(page) == []
    first = feed(page)
    page.fill("#user", address[1][5])
    page.click("#person button")
    changed(page, first)


def test_a_click_opens_the_product_and_changes_the_feed_at_once(page: Any) -> None:
    before, start = feed(page), time.monotonic()
    title = before[3]
    page.locator(FEED).nth(3).click()
    changed(page, before)
    assert time.monotonic() - start < 10  # of half a second, on a machine that is busy
    page.wait_for_selector("#product-similar .open")
    assert page.locator("#product-title").inner_text() == title
    assert "brand" in page.locator("#product-fields").inner_text()
    assert findings(page) == []
    now = feed(page)
    page.get_by_role("button", name="Buy").click()
    changed(page, now)
    page.keyboard.press("Escape")
    assert not page.locator("#product").evaluate("dialog => dialog.open")


def test_its_times_are_measured(address: tuple[str, list[str]]) -> None:
    with ThreadPoolExecutor(1) as pool:  # Playwright is in use in this thread
        found = pool.submit(page_times, address[0].removesuffix("/ui/"), 2).result()
    for name in ("page_first_feed", "page_click_to_feed"):
        assert 1 < found[f"{name}_p50_ms"] <= found[f"{name}_max_ms"] < 60_000


def test_the_feed_goes_on_and_words_are_searched_for(page: Any) -> None:
    first = feed(page)
    page.click("#more")
    changed(page, first)
    longer = feed(page)
    assert longer[:12] == first and len(set(longer)) == 24
    page.click("#tab-search")
    page.fill("#query", first[2])
    page.keyboard.press("Enter")
    page.wait_for_selector("#search-items .open")
    assert first[2] in page.locator("#search-items .open").all_inner_texts()
    assert findings(page) == []


def test_a_chat_streams_its_words_and_shows_products(page: Any) -> None:
    page.click("#tab-chat")
    page.fill("#message", "something warm for winter")
    page.keyboard.press("Enter")
    page.wait_for_selector("#conversation .card")
    turns = page.locator("#conversation .turn").all_inner_texts()
    assert turns[0] == "something warm for winter"
    assert turns[1].startswith("1. ") and len(turns[1].splitlines()) == 5
    assert findings(page) == []


def say(page: Any, words: str, turns: int) -> str:
    """The reply to a message, once there are so many turns."""
    page.fill("#message", words)
    page.keyboard.press("Enter")
    return reply(page, turns)


def reply(page: Any, turns: int) -> str:
    last = page.locator("#conversation .turn").nth(turns - 1)
    last.wait_for()
    page.wait_for_selector("#conversation[aria-busy=false]")
    return str(last.inner_text())


@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_the_assistant_asks_and_its_question_has_buttons(
    browser: Any, talking: tuple[str, ScriptedModel], size: Any
) -> None:
    url, model = talking
    page = browser.new_page(viewport=size)
    page.goto(url)
    page.wait_for_selector(FEED)
    page.click("#tab-chat")
    model.steps = [
        call("search_catalog"),
        call("search_catalog", category="kitchen"),
        call("search_catalog", not_colour="red"),
    ]
    assert "something else?" in say(page, "hello", 2)
    assert findings(page) == []
    answer = page.locator(".answers button").first
    value = answer.inner_text()
    answer.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#conversation .card")
    assert page.locator("#conversation .turn").nth(2).inner_text() == value
    assert page.locator(".answers button").count() == 0 or "narrow" in reply(page, 4)
    assert "1. " not in reply(page, 4)  # the cards have the numbers
    assert "kitchen, not red" in say(page, "not red", 6)
    wide = page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert wide and findings(page) == []
    page.close()


def test_a_photo_and_a_recording_are_messages(
    browser: Any, talking: tuple[str, ScriptedModel], spoken: Path, tmp_path: Path
) -> None:
    url, model = talking
    picture(7).save(tmp_path / "photo.png")
    page = browser.new_page(viewport=WIDE)
    page.goto(url)
    page.wait_for_selector(FEED)
    page.click("#tab-chat")
    model.steps = [call("search_catalog", not_colour="red"), call("search_catalog", query="coat")]
    page.set_input_files("#chat-photo", tmp_path / "photo.png")
    assert "like your picture, not red" in say(page, "this, but not red", 2)
    sound = base64.b64encode(spoken.read_bytes()).decode()
    page.evaluate(RECORDED, sound)
    page.click("#record")
    page.click("#record")
    page.wait_for_function("document.querySelector('#status').textContent.startsWith('Recorded')")
    page.click("#chat-form button:not([type])")
    assert "coat" in reply(page, 4)
    heard = page.locator("#conversation .turn").nth(2).inner_text()
    assert "coat" in heard.lower()
    page.close()


def test_everything_is_reached_by_the_keyboard_alone(page: Any) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.innerText") == "Skip to the content"
    page.locator("#tab-feed").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#search").is_visible()
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("() => performance.getEntriesByName('feed-shown').length === 2")
    page.locator(FEED).first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#product[open]")
    page.keyboard.press("Escape")
    page.wait_for_function("() => !document.getElementById('product').open")


def test_operations_are_figures_of_this_service(page: Any) -> None:
    page.click("#tab-operations")
    page.wait_for_selector("#requests td")
    assert "POST /v1/recommendations, 200" in page.locator("#requests").inner_text()
    assert findings(page) == []


def test_a_small_screen_shows_all_of_it(browser: Any, address: tuple[str, list[str]]) -> None:
    page = browser.new_page(viewport=NARROW)
    page.goto(address[0])
    page.wait_for_selector(FEED)
    for view in ("feed", "search", "chat", "experiments", "operations"):
        page.click(f"#tab-{view}")
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= NARROW["width"], view
        assert findings(page) == [], view
    page.close()


def test_what_the_service_refuses_is_said_in_its_words(page: Any) -> None:
    page.fill("#user", "x" * 300)
    page.click("#person button")
    page.wait_for_selector("#status.error")
    assert "a name has at most" in page.locator("#status").inner_text()


def test_no_file_of_the_page_names_another_host() -> None:
    folder = Path(__file__).parents[2] / "llmrec" / "serving" / "page"
    for path in folder.iterdir():
        assert "://" not in path.read_text().replace("http://www.w3.org", ""), path
