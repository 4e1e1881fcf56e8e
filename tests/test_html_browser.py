"""The HTML report in a real browser: offline, a silent console, no word of a study run, tables sorted.

Chromium is driven over a pipe, by its own protocol; the tests skip where it is not installed or does not start.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from attnsearch import report as reports
from tests.test_reports import EVIL, record, trial

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SILENCE = 60  # seconds after which it is given up
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


class Browser:
    """One page of a headless Chromium; `messages` are what the console said, `requests` what the page asked for."""

    def __init__(self, profile: Path) -> None:
        down, self._write = os.pipe()
        self._read, up = os.pipe()

        def wire() -> None:  # Chromium reads from 3 and writes to 4
            held = os.dup(up)
            os.dup2(down, 3)
            os.dup2(held, 4)

        flags = ("--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe")
        self._process = subprocess.Popen(
            [str(CHROMIUM), *flags, f"--user-data-dir={profile}"],
            preexec_fn=wire,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(down)
        os.close(up)  # so that a Chromium that ends reads as end of file
        self._buffer, self._number = b"", 0
        self.messages, self.requests = list[str](), list[str]()
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    _session = ""

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (reply := self._next()).get("id") != self._number:
            self._note(reply)
        assert "error" not in reply, reply
        return dict(reply["result"])

    def open(self, page: Path) -> None:
        self.messages, self.requests = [], []
        self.call(
            "Network.emulateNetworkConditions",
            offline=True,
            latency=0,
            downloadThroughput=0,
            uploadThroughput=0,
        )
        self.call("Page.navigate", url=page.as_uri())
        while (event := self._next()).get("method") != "Page.loadEventFired":
            self._note(event)

    def value(self, expression: str) -> Any:
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=20)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            spoke, _, _ = select.select([self._read], [], [], SILENCE)
            if not (said := os.read(self._read, 1 << 16) if spoke else b""):
                raise EOFError(f"Chromium said nothing more, exit code {self._process.poll()}")
            self._buffer += said
        message, self._buffer = self._buffer.split(b"\0", 1)
        return dict(json.loads(message))

    def _note(self, event: dict[str, Any]) -> None:
        if event.get("method") in ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
            self.messages.append(json.dumps(event["params"]))
        if event.get("method") == "Network.requestWillBeSent" and event["params"]["type"] != "Document":
            self.requests += [
                url for url in [event["params"]["request"]["url"]] if not url.startswith("data:")
            ]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    folder = tmp_path_factory.mktemp("report")
    facts = {"question": EVIL, "command": EVIL, "host": EVIL, "sites": {EVIL: [EVIL]}, "ended": EVIL}
    evil = trial(EVIL, 0, None, state="failed", reason=EVIL)
    reports.write(
        reports.build(record(trial(EVIL, 0, 9.0, costs={"macs": 30e6, EVIL: 1.0}), evil, **facts)), folder
    )
    try:
        page = Browser(folder / "profile")
    except (EOFError, BrokenPipeError):  # a package that only names a snap, a container without its libraries
        pytest.skip(f"{CHROMIUM} does not start here")
    page.open(folder / "report.html")
    yield page
    page.close()


def test_the_page_opens_offline_without_a_word_on_the_console(browser):
    assert browser.value("document.querySelector('h1').textContent") == "tiny"
    assert browser.value("[...document.images].every((image) => image.naturalWidth > 0)") is True
    assert browser.value("getComputedStyle(document.querySelector('.cards')).display") == "flex"
    assert browser.messages == []


def test_no_word_of_a_study_becomes_markup_or_runs(browser):
    assert browser.value("typeof window.__xss") == "undefined"
    assert browser.value("document.scripts.length") == 2  # ours, and the data
    assert (
        browser.value("document.querySelectorAll('[onload], a:not([href=\"https://d3js.org\"])').length") == 0
    )
    assert "<script>window.__xss=1</script>" in browser.value(
        "document.querySelector('.question').textContent"
    )


def test_a_click_on_a_heading_sorts_by_number_and_a_second_one_turns_it_round(browser):
    table = "document.querySelector('details thead').parentElement"
    at = f"[...{table}.tHead.rows[0].cells].findIndex((cell) => cell.textContent === 'error (%)')"
    values = f"[...{table}.tBodies[0].rows].map((row) => Number(row.cells[{at}].dataset.v))"
    click = f"{table}.tHead.rows[0].cells[{at}].querySelector('button').click()"
    before = browser.value(values)
    assert before != sorted(before)
    browser.value(click)
    assert browser.value(values) == sorted(before)
    browser.value(click)
    assert browser.value(values) == sorted(before, reverse=True)


def test_nothing_is_wider_than_a_telephone(browser):
    browser.call(
        "Emulation.setDeviceMetricsOverride", width=400, height=800, deviceScaleFactor=1, mobile=True
    )
    assert browser.value("document.documentElement.scrollWidth") <= 400
