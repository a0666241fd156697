"""The page as somebody uses it, in headless Chromium; shared by the integration tests."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM = Path("/usr/bin/chromium")
DRIVER = Path("/usr/bin/chromedriver")
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


@contextmanager
def open_chromium(profile: Path) -> Iterator[webdriver.Chrome]:
    """A headless Chromium, which goes nowhere by itself; without one, tests are skipped, or fail where CI asks for it.

    Args:
        profile: An empty directory.
    """
    if not (CHROMIUM.exists() and DRIVER.exists()):
        reason = "No Chromium: apt-get install chromium chromium-driver"
        (pytest.fail if os.environ.get("STORMTROOPER_REQUIRE_BROWSER") == "1" else pytest.skip)(reason)
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(service=Service(str(DRIVER)), options=options)
    try:
        # Its first page asks for things of its own, late ones on a busy machine.
        driver.get("about:blank")
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
        return self.driver.execute_script(f"return {script}", *arguments)

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
        rows: list[dict[str, Any]] = self.js(
            """[...document.querySelectorAll(".row")].map((row) => ({
                    text: row.querySelector(".text").textContent,
                    label: row.querySelector(".label")?.textContent ?? null,
                    confidence: row.querySelector(".confidence")?.textContent ?? null,
                    verdict: row.querySelector(".answer").innerText,
                    notes: row.querySelector(".notes").innerText,
                    bars: [...row.querySelectorAll(".bars li")].map((bar) => [
                        bar.querySelector(".bar-name").textContent,
                        [bar.querySelector(".share").textContent, parseFloat(bar.querySelector(".fill").style.width)],
                    ]),
                }))"""
        )
        # As a list of pairs, since an object's keys come sorted.
        return [{**row, "bars": dict(row["bars"])} for row in rows]

    def name_labels(self, labels: dict[str, str]) -> None:
        """Have these labels and no others."""
        for button in self.all("#labels .remove"):
            button.click()
        for name, description in labels.items():
            self["add-label"].click()
            self.driver.switch_to.active_element.send_keys(name, Keys.TAB, description)

    def downloaded(self) -> bytes:
        """The file that the download button makes."""
        self.driver.execute_script(
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

    def screenshot(self, width: int = 960) -> bytes:
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
        features = [
            {"name": "prefers-color-scheme", "value": name},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
