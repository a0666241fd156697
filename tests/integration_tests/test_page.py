"""The page at `/`, in headless Chromium against the app under uvicorn; its screenshots for the cookbook are made here.

Needs Debian's chromium and chromium-driver; STORMTROOPER_REQUIRE_BROWSER=1 makes their absence a failure, and
STORMTROOPER_SCREENSHOTS=DIR keeps the screenshots.
"""

from __future__ import annotations

import asyncio
import csv
import http.client
import io
import json
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import pytest
from browser import Page
from fakes import FakeLLM, FakeScoringLLM
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from served import under_uvicorn

from langchain_stormtrooper import TextGenerationInference, ZeroShotClassifier
from langchain_stormtrooper.classifiers import TextClassifier
from langchain_stormtrooper.errors import OverlongInputError, RequestFailedError
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.serving import create_app
from langchain_stormtrooper.serving.page import POLICY
from langchain_stormtrooper.testing import ScriptedEngine, TGIServer

IMAGES = Path(__file__).parent.parent.parent / "cookbook" / "images"
LABELS = {"sport": "games, athletes and matches", "politics": None, "science": "research and nature"}
HTML = '<img src=x onerror="window.marker=1"><script>window.marker=1</script><b>bold</b>\'"&amp;'

pytestmark = pytest.mark.filterwarnings("ignore::langchain_stormtrooper.errors.StormtrooperWarning")


# What is served.


@contextmanager
def site(classifier: TextClassifier, **settings: Any) -> Iterator[str]:
    """Serve a classifier, and give the origin."""
    with under_uvicorn(create_app(classifier, **settings)) as origin:
        yield origin


def say(prompt: Prompt) -> str:
    """A model with all manners: what it does with a text depends on a word in it."""
    text = prompt.text
    if "novel" in text:
        raise OverlongInputError("The prompt has 5120 tokens, the server takes at most 4095.", tokens=5120, limit=4095)
    if "broken" in text:
        raise RequestFailedError("The model failed while generating (424).", status=424)
    if "markup" in text:
        return HTML
    if "hm" in text:
        return "It could be sport or politics, depending on how one reads it."
    if "misspelled" in text:
        return " polictics"
    return " science"


def generating(**settings: Any) -> ZeroShotClassifier:
    """A classifier whose model writes."""
    return ZeroShotClassifier(LABELS, llm=FakeLLM(answer=say, model_id="example/model"), **settings)


def scoring(**settings: Any) -> ZeroShotClassifier:
    """A classifier whose model scores, each text differently."""
    llm = FakeScoringLLM(answer=say, model_id="scorer", **settings.pop("llm", {}))
    return ZeroShotClassifier(LABELS, llm=llm, prior=None, **settings)


# What is seen.


@pytest.fixture(scope="module")
def writing() -> Iterator[str]:
    """The origin of an app whose model writes, for tests that need nothing else."""
    with site(generating()) as origin:
        yield origin


@pytest.fixture
def page(chromium: webdriver.Chrome) -> Iterator[Page]:
    """The page; after every test: no request elsewhere, no violation of its policy, no error in the console."""
    for log in ("performance", "browser"):  # what other tests have left
        chromium.get_log(log)  # type: ignore[no-untyped-call]  # selenium
    made = Page(chromium)
    made.size(1100)
    made.scheme("light")
    yield made
    messages = [json.loads(entry["message"])["message"] for entry in chromium.get_log("performance")]  # type: ignore[no-untyped-call]  # selenium
    urls = [one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent"]
    outside = [url for url in urls if not url.startswith((*made.origins, "blob:", "data:", "chrome://"))]
    assert urls
    assert not outside
    logged = [entry["message"] for entry in chromium.get_log("browser")]  # type: ignore[no-untyped-call]  # selenium
    assert [line for line in logged if not any(what in line for what in made.expected)] == []
    chromium.get("about:blank")


# The way of a text.


def shares(prompt: str) -> dict[str, float]:
    """A distribution over the labels for a prompt, by a word in its text."""
    named = {"goal": "sport", "vote": "politics", "atom": "science"}
    best = next((label for word, label in named.items() if word in prompt), "other")
    rest = {"sport": 0.05, "politics": 0.04, "science": 0.03, "other": 0.02}
    return {f" {label}": 0.8 if label == best else share for label, share in rest.items()}


def test_texts_become_labels_with_their_probabilities(page: Page, tgi_server: Callable[..., TGIServer]) -> None:
    """Labels written into the page are asked of a real server; labels, bars and tokens are the classifier's own."""
    labels = {"sport": "games", "politics": None, "science": None, "other": "none of these"}
    server = tgi_server("3.3.7", ScriptedEngine(shares, words=list(labels), answer_after="Label:"))
    llm = TextGenerationInference(base_url=server.url)
    own = ZeroShotClassifier({"sport": "games", "politics": None}, llm=llm, prior=None, prompt="kinds")
    texts = ["A late goal decides.", "They vote today.", "An atom decays.", "Nothing of that."]
    expected = ZeroShotClassifier(labels, llm=llm, prior=None, prompt="kinds").with_details().batch(list(texts))
    with site(own) as origin:
        page.open(origin)
        for name in ("science", "other"):
            page["add-label"].click()
            page.driver.switch_to.active_element.send_keys(name)
        page.all("#labels .description")[-1].send_keys("none of these")
        rows = page.classify(texts)
        assert page.text("#progress-text") == "4 of 4"
        assert page.text("#status") == "4 of 4 texts answered."
    assert [row["text"] for row in rows] == texts
    for row, answer in zip(rows, expected, strict=True):
        assert answer.probabilities is not None
        assert row["label"] == answer.label
        assert set(row["bars"]) == set(labels)
        for name, (told, width) in row["bars"].items():
            assert float(told.strip("%<")) == pytest.approx(100 * answer.probabilities[name], abs=0.051)
            assert width == pytest.approx(100 * answer.probabilities[name], abs=0.01)
        assert row["confidence"] == row["bars"][answer.label][0]
        assert f"{answer.prompt_tokens} prompt tokens · {answer.generated_tokens} generated" in row["notes"]
    assert [row["label"] for row in rows] == ["sport", "politics", "science", "other"]


TOLD = {
    "a novel": (["No label: too long", "Shorten it", "The prompt has 5120 tokens"], "5120 prompt tokens"),
    "hm": (["No label: no match", "none of the labels, or more than one"], "“It could be sport or politics"),
    "broken": (["No label: failed", "Ask again", "The model failed while generating (424)."], ""),
    "misspelled": (["politics"], "The model wrote “polictics”, which is nearly spelled like this label."),
    "fine": (["science"], "The model wrote “science”, which is exactly this label."),
}
"""What rows of texts say: beside the label's place, and beneath the text."""


def test_what_happened_is_told_in_words(page: Page, writing: str) -> None:
    """A row says what the matcher did, or why there is no label and what to do."""
    page.open(writing)
    for row, (told, how) in zip(page.classify(list(TOLD)), TOLD.values(), strict=True):
        assert [words for words in told if words not in row["verdict"]] == []
        assert how in row["notes"]
        assert row["bars"] == {}


def test_a_text_that_was_cut_says_so(page: Page) -> None:
    """A label for a part of the text is marked as that, and many labels are all there, the best ones first."""
    probabilities = {f"label {number}": 0.02 * number for number in range(1, 10)}
    said = {"index": 0, "label": "label 9", "reason": None, "method": "constrain", "match": "exact", "truncated": True}
    answer = {**said, "generation": "label 9", "probabilities": probabilities, "confidence": 0.18, "covered_mass": 0.9}
    with under_uvicorn(raw("200 OK", json.dumps(answer))) as origin:
        page.open(origin)
        page.name_labels(dict.fromkeys(probabilities, ""))
        (row,) = page.classify(["long"])
    assert "The text was cut to fit the model" in row["notes"]
    assert "could write nothing but a label" in row["notes"]
    assert "90.0% of the model’s probability" in row["notes"]
    assert list(row["bars"]) == [f"label {number}" for number in range(9, 0, -1)]
    assert page.text(".row summary") == "3 more labels"


def test_doubt_is_told_with_its_probabilities(page: Page) -> None:
    """A label that is not sure enough is no label, and the probabilities are there to see."""
    with site(scoring(min_confidence=0.999)) as origin:
        page.open(origin)
        (row,) = page.classify(["doubtful"])
    assert "No label: not sure enough" in row["verdict"]
    assert set(row["bars"]) == set(LABELS)
    assert "50.0% of the model’s probability on the labels" in row["notes"]
    assert page.text("#summary .missing").startswith("No label: not sure enough")


def test_one_failed_row_is_asked_again(page: Page) -> None:
    """Rows that failed are asked again by themselves; those that were answered stay as they are."""
    failing = True

    def answer(prompt: Prompt) -> str:
        if "shaky" in prompt.text and failing:
            raise RequestFailedError("The model failed while generating (424).", status=424)
        return " sport"

    llm = FakeLLM(answer=answer)
    with site(ZeroShotClassifier(LABELS, llm=llm)) as origin:
        page.open(origin)
        assert [row["label"] for row in page.classify(["shaky", "steady"])] == [None, "sport"]
        failing = False
        before = len(llm.log.texts)
        page["again"].click()
        page.until(lambda: page.rows()[0]["label"] == "sport")
        assert llm.log.texts[before:] == ["shaky"]
        assert not page.is_shown("again")


def test_html_is_text_wherever_it_comes_from(page: Page) -> None:
    """HTML in texts, labels, generations and errors is shown as it is written, and nothing of it runs."""
    with site(ZeroShotClassifier([HTML, "markup"], llm=FakeLLM(answer=say))) as origin:
        page.open(origin)
        (first, second) = page.classify([f"markup {HTML}", f"hm {HTML}"])
        assert first["text"] == f"markup {HTML}"
        assert first["label"] == HTML
        assert HTML in first["notes"]
        assert second["label"] is None
        assert page.all("#labels .name")[0].get_attribute("value") == HTML
        assert page.text("#summary dt") == HTML
    with under_uvicorn(raw("200 OK", json.dumps({"detail": HTML}))) as origin:
        page.open(origin)
        page.classify(["a"])
        page.until(lambda: HTML in page.text("#problem-text"))
    assert page.js("typeof window.marker") == "undefined"
    assert page.all("main img, main script, main b") == []


def raw(status: str, line: str, *, headers: dict[str, str] | None = None) -> Any:
    """An app that has our page and info, and answers `/classify` with one line."""
    inner = create_app(generating())

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] != "/classify":
            await inner(scope, receive, send)
            return
        given = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        await send({"type": "http.response.start", "status": int(status.split()[0]), "headers": given})
        await send({"type": "http.response.body", "body": line.encode()})

    return app


def test_the_csv_is_what_the_page_shows(page: Page) -> None:
    """The file holds every field of every row, quoted as RFC 4180 has it, and nothing a spreadsheet would run."""
    llm = FakeScoringLLM(answer=say, model_id="scorer")
    labels = ['say "no", please', "=1+1", "sport"]
    classifier = ZeroShotClassifier(labels, llm=llm, prior=None)
    texts = ['=HYPERLINK("http://x")', "@SUM(1)", "-1 and\nmore, lines", "  +2", "plain", "broken", "naïve ☃"]
    expected = classifier.with_details().batch([text.strip() for text in texts])
    with site(classifier) as origin:
        page.open(origin)
        page.all("input[value=blank]")[0].click()
        page.write(texts, separator="\n\n")
        page.classify()
        data = page.downloaded()
    assert data.startswith("\ufeff".encode())
    assert data.count(b"\r\n") == len(texts) + 1
    head, *lines = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
    assert head[:3] == ["row", "text", "label"]
    assert head[-3:] == [f"probability of {name}" for name in labels]
    shown = ['\'=HYPERLINK("http://x")', "'@SUM(1)", "'-1 and\nmore, lines", "'+2", "plain", "broken", "naïve ☃"]
    assert [line[1] for line in lines] == shown
    assert not [cell for line in lines for cell in line if cell[:1] in ("=", "+", "-", "@", "\t", "\r")]
    for number, (line, answer) in enumerate(zip(lines, expected, strict=True), 1):
        row = dict(zip(head, line, strict=True))
        told = (row["row"], row["label"].removeprefix("'"), row["reason"], row["error"])
        assert told == (str(number), answer.label or "", answer.reason or "", answer.error or "")
        if answer.probabilities is not None:
            assert [float(share) for share in line[-3:]] == list(answer.probabilities.values())
            assert float(row["confidence"]) == answer.confidence
            assert (row["prompt_tokens"], row["truncated"], row["method"]) == ("7", "false", "score")


# Keys, limits, ends.


def test_a_key_is_asked_for_and_kept_in_memory(page: Page) -> None:
    """Without the key nothing is shown; a wrong one is told; the right one opens, and is stored nowhere."""
    page.expected = ["401 (Unauthorized)"]
    with site(generating(), api_key="open-sesame") as origin:
        page.open(origin)
        assert page.is_shown("key-section")
        assert not page.is_shown("task")
        page["key"].send_keys("wrong", Keys.ENTER)
        page.until(lambda: page.text("#problem-text") == "The server does not accept this key.")
        page["key"].send_keys("ключ", Keys.ENTER)
        page.until(lambda: "ASCII characters only" in page.text("#problem-text"))
        page["key"].clear()
        page["key"].send_keys("open-sesame", Keys.ENTER)
        page.until(lambda: page.is_shown("task"))
        assert not page.is_shown("problem")
        assert [row["label"] for row in page.classify(["fine"])] == ["science"]
        assert page.js("[localStorage.length, sessionStorage.length, document.cookie, location.href]") == [
            0,
            0,
            "",
            f"{origin}/",
        ]
        page.open(origin)
        assert page.is_shown("key-section")


def test_a_server_that_does_not_say_what_it_classifies(page: Page) -> None:
    """Where `/info` fails the page says so, and can be told to try again."""
    page.expected = ["status of 500"]
    inner = create_app(generating())
    is_ill = True

    async def ill(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] == "/info" and is_ill:
            await send({"type": "http.response.start", "status": 500, "headers": []})
            await send({"type": "http.response.body", "body": b"<h1>no</h1>"})
            return
        await inner(scope, receive, send)

    with under_uvicorn(ill) as origin:
        page.open(origin)
        page.until(lambda: page.is_shown("reconnect"))
        assert page.text("#problem-text") == "The server answered with status 500."
        is_ill = False
        page["reconnect"].click()
        page.until(lambda: page.is_shown("task"))
        assert not page.is_shown("problem")


def test_fixed_labels_cannot_be_edited(page: Page) -> None:
    """Where requests may bring no labels, the page says so, lets none be edited, and still classifies."""
    with site(generating(), fixed_labels=True) as origin:
        page.open(origin)
        assert page.is_shown("fixed")
        assert not page.is_shown("add-label")
        assert all(field.get_attribute("readonly") for field in page.all("#labels input, #kinds input"))
        assert not [button for button in page.all("#labels .remove") if button.is_displayed()]
        assert [row["label"] for row in page.classify(["fine"])] == ["science"]


def test_a_busy_server_is_asked_again(page: Page) -> None:
    """After a 429 the page says when it asks again, and does so."""
    page.expected = ["429 (Too Many Requests)"]
    inner = create_app(generating())
    asked: list[bytes] = []

    async def busy_once(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] == "/classify":
            asked.append(scope["path"])
            if len(asked) == 1:
                await send({"type": "http.response.start", "status": 429, "headers": [(b"retry-after", b"1")]})
                await send({"type": "http.response.body", "body": b'{"detail": "Busy."}'})
                return
        await inner(scope, receive, send)

    with under_uvicorn(busy_once) as origin:
        page.open(origin)
        page.write(["fine"])
        page["classify"].click()
        page.until(lambda: "busy: asking again in 1 s" in page.text("#progress-text"))
        assert "busy" in page.text("#status")
        page.until(page.is_done)
        assert [row["label"] for row in page.rows()] == ["science"]
    assert len(asked) == 2


@pytest.mark.parametrize("status", [422, 503])
def test_a_refusal_is_told_and_leaves_the_rows(page: Page, status: int) -> None:
    """The server's sentence is shown as an alert, and rows that were not answered can be asked again."""
    page.expected = [f"status of {status}"]
    with under_uvicorn(raw(f"{status} no", json.dumps({"detail": "Not like this."}))) as origin:
        page.open(origin)
        (row,) = page.classify(["fine"])
        assert "Not like this. 0 of 1 text answered." in page.text("#problem-text")
        assert page["problem"].get_attribute("role") == "alert"
        assert "No label: not answered" in row["verdict"]
        assert page["again"].text == "Ask again for 1 text"


def test_a_server_that_goes_away_half_way(page: Page) -> None:
    """Rows that came before the connection broke stay; the others are marked, and can be asked again."""
    page.expected = ["ERR_", "Failed to load"]
    inner = create_app(generating())
    is_up = False

    async def breaks(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] == "/classify" and not is_up:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9999")]})
            line = json.dumps({"index": 1, "label": "sport", "reason": None, "method": "generate"}) + "\n"
            await send({"type": "http.response.body", "body": line.encode(), "more_body": True})
            await asyncio.sleep(0.1)
            raise RuntimeError("killed")
        await inner(scope, receive, send)

    with under_uvicorn(breaks) as origin:
        page.open(origin)
        rows = page.classify(["one", "two", "three"])
        assert [row["label"] for row in rows] == [None, "sport", None]
        assert "No label: not answered" in rows[0]["verdict"]
        assert "1 of 3 texts answered" in page.text("#problem-text")
        is_up = True
        page["again"].click()
        page.until(lambda: [row["label"] for row in page.rows()] == ["science", "sport", "science"])
        assert not page.is_shown("problem")
        is_up = False
    page["classify"].click()
    page.until(lambda: page.is_done() and page.is_shown("problem"))
    assert "does not answer" in page.text("#problem-text")


def test_rows_fill_in_and_the_rest_can_be_cancelled(page: Page) -> None:
    """Answers appear while others are still awaited; cancelling ends the request and keeps what has come."""
    llm = FakeLLM(answer=lambda _: "sport")
    with site(ZeroShotClassifier(LABELS, llm=llm)) as origin:
        page.open(origin)
        page.write(["quick", "SLOW one", "quick too"])
        page["classify"].click()
        page.until(lambda: page.text("#progress-text") == "2 of 3")
        assert [row["label"] for row in page.rows()] == ["sport", None, "sport"]
        assert page.rows()[1]["verdict"] == "Waiting …"
        page["cancel"].click()
        page.until(page.is_done)
        assert "No label: not answered" in page.rows()[1]["verdict"]
        assert page.text("#status") == "Cancelled. 2 of 3 texts answered."
        page.until(lambda: llm.log.cancelled == 1)


def test_more_texts_than_one_request_takes(page: Page) -> None:
    """Texts go in as many requests as the server's limits ask for, and every row gets its own answer."""
    texts = [f"text {number}, {'novel' if number % 3 == 0 else 'fine'}" for number in range(20)]
    with site(generating(), max_texts=7, max_body_bytes=1200) as origin:
        page.open(origin)
        rows = page.classify(texts)
    assert [row["text"] for row in rows] == texts
    assert [row["label"] for row in rows] == [None if number % 3 == 0 else "science" for number in range(20)]


def test_a_text_that_no_request_takes_stops_no_other(page: Page) -> None:
    """A text longer than the limit of a body is marked as too long, and the texts around it are answered."""
    with site(generating(), max_body_bytes=1200) as origin:
        page.open(origin)
        rows = page.classify(["fine", "x" * 1300, "fine too"])
        assert page.text("#status") == "3 of 3 texts answered."
        assert not page.is_shown("again")
    assert [row["label"] for row in rows] == ["science", None, "science"]
    assert "No label: too long" in rows[1]["verdict"]


def test_the_servers_own_labels_may_be_many(page: Page) -> None:
    """The limit of labels is for those that are sent: the server's own are not."""
    names = [f"number {number}" for number in range(201)]
    with site(ZeroShotClassifier(names, llm=FakeLLM(answer=lambda _: "number 7"))) as origin:
        page.open(origin)
        assert [row["label"] for row in page.classify(["fine"])] == ["number 7"]
        page["add-label"].click()
        page.driver.switch_to.active_element.send_keys("another")
        page["classify"].click()
        assert page.text("#problem-text") == "This server takes at most 200 labels."


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ({"one": ""}, "at least two labels"),
        ({"one": "", "ONE": ""}, "see the marked ones"),
        ({"one": "", "": "no name"}, "see the marked ones"),
    ],
)
def test_labels_that_make_no_choice_are_not_sent(page: Page, writing: str, labels: dict[str, str], told: str) -> None:
    """Too few, equal or nameless labels are told before anything is asked, and the field is found."""
    page.open(writing)
    page.name_labels(labels)
    page.write(["fine"])
    page["classify"].click()
    assert told in page.text("#problem-text")
    assert not page.is_shown("results")
    focused = page.driver.switch_to.active_element
    assert focused.get_attribute("id") == "add-label" or focused.get_attribute("aria-invalid") == "true"


def test_the_order_of_labels_is_kept(page: Page) -> None:
    """Labels that JavaScript would sort reach the model in the order on the page."""
    llm = FakeScoringLLM(answer=say)
    with site(ZeroShotClassifier(["b", "a"], llm=llm, prior=None)) as origin:
        page.open(origin)
        page.name_labels({"10": "", "9": "", "1": ""})
        assert len(page.classify(["fine"])[0]["bars"]) == 3
    assert [answer.strip() for answer in llm.asked[-1]] == ["10", "9", "1"]


# For everybody.


def test_the_keyboard_is_enough(page: Page, writing: str) -> None:
    """A text, one more label and the answer, with the keyboard alone; the focus is always seen."""
    page.open(writing)

    def press(*keys: str) -> WebElement:
        ActionChains(page.driver).send_keys(*keys).perform()
        focused = page.driver.switch_to.active_element
        assert page.js("getComputedStyle(arguments[0]).outlineStyle", focused) != "none"
        return focused

    assert press(Keys.TAB).get_attribute("id") == "texts"
    press("It is misspelled")
    for _ in range(40):
        if press(Keys.TAB).get_attribute("id") == "add-label":
            break
    assert press(Keys.ENTER).get_attribute("class") == "name"
    press("other")
    assert len(page.all("#labels li")) == 4
    assert press(Keys.TAB, Keys.TAB).get_attribute("class") == "remove"
    press(Keys.ENTER)
    assert len(page.all("#labels li")) == 3
    for _ in range(10):
        if press(Keys.TAB).get_attribute("id") == "classify":
            break
    # While it works there is no button; the focus comes back at the end.
    ActionChains(page.driver).send_keys(Keys.ENTER).perform()
    page.until(page.is_done)
    assert page.rows()[0]["label"] == "politics"
    page.until(lambda: page.driver.switch_to.active_element.get_attribute("id") == "classify")
    page["texts"].send_keys(Keys.CONTROL, Keys.ENTER)
    page.until(page.is_done)
    assert page.rows()[0]["label"] == "politics"


def test_every_control_has_a_name_and_headings_are_in_order(page: Page) -> None:
    """What a screen reader is told: a language, names of all controls, one first heading and no level left out."""
    with site(scoring()) as origin:
        page.open(origin)
        page["kinds"].find_element(By.TAG_NAME, "summary").click()
        page.classify(["fine", "words " * 100])
        assert page.js("document.documentElement.lang") == "en"
        controls = [one for one in page.all("input, textarea, button, a, progress, ul.bars") if one.is_displayed()]
        assert len(controls) > 15
        assert [one.get_attribute("outerHTML") for one in controls if not one.accessible_name.strip()] == []
        levels = page.js("[...document.querySelectorAll('h1, h2, h3, h4')].map((one) => Number(one.tagName[1]))")
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))
        assert page.js("[...document.querySelectorAll('[style]:not(.fill)')].length") == 0
        ids = page.js("[...document.querySelectorAll('[id]')].map((one) => one.id)")
        assert len(ids) == len(set(ids))
        assert page.all(".text")[0].get_attribute("dir") == "auto"


CONTRASTS = """(() => {
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const read = (colour) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const ground = (one) => {
        for (; one; one = one.parentElement) {
            const colour = read(getComputedStyle(one).backgroundColor);
            if (colour[3] === 255) return colour;
        }
        return [255, 255, 255, 255];
    };
    const light = (colour) => colour.slice(0, 3).map((part) => part / 255)
        .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
        .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
    const ratio = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
    const found = [];
    const note = (name, one, colour, behind, least) =>
        found.push([name, ratio(read(getComputedStyle(one)[colour]), ground(behind)) / least]);
    for (const one of document.querySelectorAll("body *")) {
        const own = [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
        const field = one.matches("input[type=text], textarea");
        if (!(own || field) || !one.checkVisibility() || one.matches(":disabled")) continue;
        note(`${one.tagName}.${one.className}`, one, "color", one, 4.5);
        if (field || one.matches("button:not(.main, .remove, .more)"))
            note(`${one.tagName} border`, one, "borderTopColor", one.parentElement, 3);
    }
    for (const one of document.querySelectorAll(".best .fill"))
        note("bar", one, "backgroundColor", one.parentElement, 3);
    return found;
})()"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_differ_enough(page: Page, scheme: str) -> None:
    """Text has a contrast of at least 4.5 to 1, and fields and bars of 3 to 1, in both schemes."""
    page.scheme(scheme)
    page.expected = ["status of 503"]
    with under_uvicorn(raw("503 no", json.dumps({"detail": "Not now."}))) as origin:
        page.open(origin)
        page.classify(["fine"])
        found = page.js(CONTRASTS)
    with site(scoring()) as origin:
        page.open(origin)
        page.classify(["fine", "broken"])
        found += page.js(CONTRASTS)
        luminance = sum(
            page.js("getComputedStyle(document.body.parentElement).backgroundColor.match(/[0-9]+/g).map(Number)")
        )
    assert (luminance < 200) == (scheme == "dark")
    assert {"bar", "TEXTAREA border", "STRONG.nolabel", "STRONG.label"} <= {name for name, _ in found}
    assert [(name, ratio) for name, ratio in found if ratio < 1] == []


def test_a_narrow_window_shows_everything(page: Page) -> None:
    """At 360 pixels nothing sticks out to the side, whatever long words the texts, labels and answers have."""
    page.size(360)
    long = "Donaudampfschifffahrtsgesellschaft" * 5
    with site(ZeroShotClassifier([long, "short"], llm=FakeScoringLLM(answer=say), prior=None)) as origin:
        page.open(origin)
        page.classify([long, "markup", "broken", "مرحبا"])
        assert page.js("document.documentElement.scrollWidth") <= 360
        boxes = page.js(
            "[...document.querySelectorAll('main button, main input, .row *')].filter((one) => one.checkVisibility())"
            ".map((one) => one.getBoundingClientRect()).map(({ left, right }) => [left, right])"
        )
        assert all(0 <= left <= right <= 360 for left, right in boxes)


def test_what_is_sent_with_the_page(page: Page, writing: str) -> None:
    """Every file has its type, a tag that makes a second request short, and the policy; no other file is there."""
    page.open(writing)
    paths = page.js("performance.getEntriesByType('resource').map((one) => new URL(one.name).pathname)")
    types = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
    host = urlsplit(writing).netloc
    for path in {"/", *(path for path in paths if path.startswith("/static/"))}:
        status, headers, body = fetch(host, path)
        assert status == 200
        assert headers["content-type"].startswith(types.get(Path(path).suffix, "text/html"))
        assert headers["content-security-policy"] == POLICY
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert body
        assert fetch(host, path, {"If-None-Match": headers["etag"]})[::2] == (304, b"")
        assert fetch(host, path, method="HEAD")[::2] == (200, b"")
    assert {Path(path).suffix for path in paths} >= {".css", ".js"}
    for path in ("/static/", "/static/nothing.js", "/static/..%2fpage.py", "/static/../page.py"):
        assert fetch(host, path)[0] == 404


def fetch(
    host: str, path: str, headers: dict[str, str] | None = None, method: str = "GET"
) -> tuple[int, dict[str, str], bytes]:
    """One request, its path as it is."""
    connection = http.client.HTTPConnection(host, timeout=10)
    try:
        connection.request(method, path, headers=headers or {})
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        connection.close()


# Screenshots.


def keep(name: str, shot: bytes) -> None:
    """Compare a screenshot with the one in the cookbook, and keep it where the environment says."""
    if directory := os.environ.get("STORMTROOPER_SCREENSHOTS"):
        Path(directory, name).write_bytes(shot)
    assert len(shot) < 200_000
    width, height = dimensions(shot)
    kept_width, kept_height = dimensions((IMAGES / name).read_bytes())
    assert width == kept_width
    # Lines break elsewhere where the fonts are others.
    assert height == pytest.approx(kept_height, rel=0.1)


def dimensions(png: bytes) -> tuple[int, int]:
    """Width and height in the head of a PNG."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    return cast("tuple[int, int]", struct.unpack(">II", png[16:24]))


def test_screenshot_of_labels(page: Page, tgi_server: Callable[..., TGIServer]) -> None:
    """The picture of the cookbook: texts with labels and probabilities, from a scripted model."""
    labels = {"sport": "games and athletes", "politics": "states and elections", "science": "research", "other": None}
    weights = {"goal": (90, 2, 1, 3), "Electoral": (1, 91, 2, 4), "ozone": (1, 36, 55, 4)}

    def rule(prompt: str) -> dict[str, float]:
        found = next((shares for word, shares in weights.items() if word in prompt), (20, 20, 20, 20))
        return {f" {label}": share / 100 for label, share in zip(labels, found, strict=True)}

    texts = [
        "It is the Electoral College’s responsibility to choose the president.",
        "A goal in extra time took the visitors through to the final.",
        "Governments agreed to phase out what thins the ozone layer.",
    ]
    server = tgi_server("3.3.7", ScriptedEngine(rule, words=list(labels)), model_id="example/model")
    llm = TextGenerationInference(base_url=server.url)
    with site(ZeroShotClassifier(labels, llm=llm, prior=None, prompt="kinds")) as origin:
        page.open(origin)
        rows = page.classify(texts)
        assert [row["label"] for row in rows] == ["politics", "sport", "science"]
        keep("page.png", page.screenshot())


def test_screenshot_of_rows_without_labels(page: Page, writing: str) -> None:
    """The picture of the cookbook: why rows have no label, in the dark scheme."""
    page.scheme("dark")
    texts = [
        "A misspelled answer, which still counts",
        "hm, a match in parliament",
        "A whole novel …",
        "A broken request",
    ]
    page.open(writing)
    rows = page.classify(texts)
    assert [row["label"] for row in rows] == ["politics", None, None, None]
    keep("page_none.png", page.screenshot())
