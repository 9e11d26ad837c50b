"""A headless Chromium, driven over its DevTools protocol."""

import base64
import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from tests.conftest import end

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

WHERE = """label => {
    const found = [...document.querySelectorAll("body *")]
        .findLast(element => !element.children.length && element.innerText?.trim() === label);
    found?.scrollIntoView({block: "center"});
    const box = found?.getBoundingClientRect();
    return box && [box.x + box.width / 2, box.y + box.height / 2];
}"""
"""Finds the middle of what shows a label, in pixels of the window."""


class Page:
    """One open page."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._number = 0

    def ask(self, method: str, **parameters: Any) -> Any:
        self._number += 1
        self._connection.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._connection.recv(timeout=30))
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def value(self, script: str) -> Any:
        return self.ask("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def text(self) -> str:
        return self.value("document.body ? document.body.innerText : ''")

    def wait_for_text(self, *wanted: str, timeout: float = 180) -> str:
        deadline = time.monotonic() + timeout
        while not all(part in (text := self.text()) for part in wanted):
            assert time.monotonic() < deadline, f"no {wanted} on the page within {timeout:.0f} s, but:\n{text}"
            time.sleep(0.2)
        return text

    def click(self, label: str) -> None:
        """Press the mouse where a label stands, as a person does."""
        place = self.value(f"({WHERE})({json.dumps(label)})")
        assert place, f"no {label!r} on the page to click:\n{self.text()}"
        for kind in ("mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)

    def set(self, name: str, value: object) -> None:
        """Give an input of the form a value, as a person's hand does."""
        field = f"document.getElementById({json.dumps(name)})"
        self.value(f"{field}.value = {json.dumps(value)}; {field}.dispatchEvent(new Event('input'))")

    def pictures(self) -> list[str]:
        """Return the addresses of the pictures that the browser has loaded."""
        loaded = "[...document.images].filter(image => image.complete && image.naturalWidth)"
        return self.value(f"{loaded}.map(image => image.src)")

    def screenshot(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot")["data"]))


@contextmanager
def browser(folder: Path) -> Iterator[str]:
    """Start a browser with its profile in a folder; gives the address of its DevTools."""
    if not CHROMIUM:
        (pytest.fail if os.environ.get("SSDNET_REQUIRE_SERVERS") else pytest.skip)("no browser: install chromium")
    process = subprocess.Popen(
        [
            *(CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1400,1000"),
            *("--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        announced = folder / "DevToolsActivePort"
        deadline = time.monotonic() + 60
        while not announced.exists() or not announced.read_text():
            assert process.poll() is None, "the browser ended"
            assert time.monotonic() < deadline, "the browser does not start"
            time.sleep(0.05)
        yield f"127.0.0.1:{announced.read_text().split()[0]}"
    finally:
        end(process)


@contextmanager
def opened(devtools: str, url: str) -> Iterator[Page]:
    request = urllib.request.Request(f"http://{devtools}/json/new?{url}", method="PUT")
    with urllib.request.urlopen(request, timeout=30) as answer:
        target = json.load(answer)
    with connect(target["webSocketDebuggerUrl"], max_size=None) as connection:
        yield Page(connection)
