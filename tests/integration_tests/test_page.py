"""The page at `/`, in headless Chromium against the app under uvicorn; its screenshots for the cookbook are made here.

Needs Debian's chromium and chromium-driver; STORMTROOPER_REQUIRE_BROWSER=1 makes their absence a failure, and
STORMTROOPER_SCREENSHOTS=DIR keeps the screenshots.
"""

from __future__ import annotations

import asyncio
import base64
import csv
import http.client
import io
import json
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import pytest
import uvicorn
from fakes import FakeLLM, FakeScoringLLM
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from langchain_stormtrooper import TextGenerationInference, ZeroShotClassifier
from langchain_stormtrooper.classifiers import TextClassifier
from langchain_stormtrooper.errors import OverlongInputError, RequestFailedError
from langchain_stormtrooper.prompts import Prompt
from langchain_stormtrooper.serving import create_app
from langchain_stormtrooper.serving.page import POLICY
from langchain_stormtrooper.testing import ScriptedEngine, TGIServer

CHROMIUM = Path("/usr/bin/chromium")
DRIVER = Path("/usr/bin/chromedriver")
IMAGES = Path(__file__).parent.parent.parent / "cookbook" / "images"
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--force-color-profile=srgb",
    "--hide-scrollbars",
    "--lang=en-US",
)
LABELS = {"sport": "games, athletes and matches", "politics": None, "science": "research and nature"}
HTML = "<img src=x onerror=\"window.marker=1\"><script>window.marker=1</script><b>bold</b>'\"&amp;"

pytestmark = pytest.mark.filterwarnings("ignore::langchain_stormtrooper.errors.StormtrooperWarning")


# What is served.


@contextmanager
def served(app: Any) -> Iterator[str]:
    """Run an app under uvicorn in a thread, and give its origin."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)
            assert not thread.is_alive()


@contextmanager
def site(classifier: TextClassifier, **settings: Any) -> Iterator[str]:
    """Serve a classifier, and give the origin."""
    with served(create_app(classifier, **settings)) as origin:
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
    return ZeroShotClassifier(LABELS, llm=FakeLLM(answer=say, model_id="meta-llama/Llama-3.1-8B"), **settings)


def scoring(**settings: Any) -> ZeroShotClassifier:
    """A classifier whose model scores, each text differently."""
    llm = FakeScoringLLM(answer=say, model_id="scorer", **settings.pop("llm", {}))
    return ZeroShotClassifier(LABELS, llm=llm, prior=None, **settings)


# What is seen.


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """One headless Chromium for all tests, which goes nowhere by itself."""
    if not (CHROMIUM.exists() and DRIVER.exists()):
        reason = "No Chromium: apt-get install chromium chromium-driver"
        (pytest.fail if os.environ.get("STORMTROOPER_REQUIRE_BROWSER") == "1" else pytest.skip)(reason)
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(service=Service(str(DRIVER)), options=options)
    try:
        yield driver
    finally:
        driver.quit()


class Page:
    """The page as somebody uses it."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver
        self.origins: set[str] = set()
        self.expected: list[str] = []

    def open(self, origin: str) -> Page:
        """Load the page anew and wait until it knows what the server classifies, or asks for a key."""
        self.origins.add(origin)
        self.driver.get(f"{origin}/")
        self.until(lambda: any(self.is_shown(name) for name in ("task", "key-section", "problem")))
        return self

    def __getitem__(self, name: str) -> WebElement:
        return self.driver.find_element(By.ID, name)

    def all(self, selector: str) -> list[WebElement]:
        """All elements of a CSS selector."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def js(self, script: str, *arguments: Any) -> Any:
        """What a script returns, given as an expression."""
        return self.driver.execute_script(f"return {script}", *arguments)  # type: ignore[no-untyped-call]  # selenium

    def text(self, selector: str) -> str:
        """The text of the first element of a selector, whether it is in view or not."""
        return str(self.js("document.querySelector(arguments[0]).textContent", selector))

    def is_shown(self, name: str) -> bool:
        """Whether the element with this id is there to be seen."""
        return bool(self.js("document.getElementById(arguments[0]).checkVisibility()", name))

    def until(self, holds: Callable[[], Any], seconds: float = 10) -> None:
        """Wait until something holds."""
        WebDriverWait(self.driver, seconds, poll_frequency=0.02).until(lambda _: holds())

    def write(self, texts: Sequence[str], separator: str = "\n") -> None:
        """Put texts into the page as a paste does."""
        self.js("arguments[0].select() || arguments[0].focus()", self["texts"])
        self.driver.execute_cdp_cmd("Input.insertText", {"text": separator.join(texts)})

    def classify(self, texts: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Ask about texts and give the rows when all is done."""
        if texts is not None:
            self.write(texts)
        self["classify"].click()
        self.until(self.is_done)
        return self.rows()

    def is_done(self) -> bool:
        """Whether nothing runs any more."""
        return not self.is_shown("cancel") and self.is_shown("results")

    def rows(self) -> list[dict[str, Any]]:
        """What each row shows."""
        return cast(
            "list[dict[str, Any]]",
            self.js(
                """[...document.querySelectorAll(".row")].map((row) => ({
                    text: row.querySelector(".text").textContent,
                    label: row.querySelector(".label")?.textContent ?? null,
                    confidence: row.querySelector(".confidence")?.textContent ?? null,
                    verdict: row.querySelector(".answer").innerText,
                    notes: row.querySelector(".notes").innerText,
                    bars: Object.fromEntries([...row.querySelectorAll(".bars li")].map((bar) => [
                        bar.querySelector(".bar-name").textContent,
                        [bar.querySelector(".share").textContent, parseFloat(bar.querySelector(".fill").style.width)],
                    ])),
                }))"""
            ),
        )

    def name_labels(self, labels: dict[str, str]) -> None:
        """Have these labels and no others."""
        for button in self.all("#labels .remove"):
            button.click()
        for name, description in labels.items():
            self["add-label"].click()
            self.driver.switch_to.active_element.send_keys(name, Keys.TAB, description)

    def downloaded(self) -> bytes:
        """The file that the download button makes."""
        self.driver.execute_script(  # type: ignore[no-untyped-call]  # selenium
            """window.saved = null;
            const make = URL.createObjectURL;
            URL.createObjectURL = (blob) => {
                const reader = new FileReader();
                reader.onload = () => { window.saved = reader.result; };
                reader.readAsDataURL(blob);
                URL.createObjectURL = make;
                return make.call(URL, blob);
            };"""
        )
        self["download"].click()
        self.until(lambda: self.js("window.saved"))
        return base64.b64decode(self.js("window.saved").partition(",")[2])

    def screenshot(self, width: int = 1100) -> bytes:
        """The whole page as a PNG."""
        self.size(width, 700)
        height = int(self.js("Math.ceil(document.documentElement.getBoundingClientRect().height)"))
        self.size(width, height)
        self.js("document.activeElement.blur()")
        shot = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
        return base64.b64decode(shot["data"])

    def size(self, width: int, height: int = 900) -> None:
        """Have a window of this size."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def scheme(self, name: str) -> None:
        """Prefer a colour scheme, without motion."""
        features = [{"name": "prefers-color-scheme", "value": name}, {"name": "prefers-reduced-motion", "value": "reduce"}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


@pytest.fixture
def page(chromium: webdriver.Chrome) -> Iterator[Page]:
    """The page; after every test: no request elsewhere, no violation of its policy, no error in the console."""
    made = Page(chromium)
    made.size(1100)
    made.scheme("light")
    yield made
    messages = [json.loads(entry["message"])["message"] for entry in chromium.get_log("performance")]  # type: ignore[no-untyped-call]  # selenium
    urls = [one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent"]
    outside = [url for url in urls if not url.startswith((*made.origins, "blob:", "data:,"))]
    assert urls
    assert not outside
    logged = [entry["message"] for entry in chromium.get_log("browser")]  # type: ignore[no-untyped-call]  # selenium
    assert [line for line in logged if not any(what in line for what in made.expected)] == []
    chromium.get("about:blank")
