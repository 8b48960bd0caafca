"""A real headless Chromium, asked over its DevTools pipe: what a page looks like and what it complained about."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from tests.holding import HANG

COMMANDS = ("chromium-headless-shell", "chromium-shell", "chromium", "chromium-browser", "google-chrome")
PATIENCE = HANG  # seconds for one answer


def find() -> str | None:
    """The browser's command, or None."""
    return next((found for name in COMMANDS if (found := shutil.which(name))), None)


class Chromium:
    """One page in one browser process. `events` are all DevTools events so far."""

    def __init__(self) -> None:
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe"]
        # DevTools' pipe is file descriptors 3 and 4 of the browser.
        script = f'exec 3<&{to_browser} 4>&{from_browser}; exec "$@"'
        self._process = subprocess.Popen(
            ["bash", "-c", script, "bash", find(), *options, f"--user-data-dir={self._profile.name}"],
            pass_fds=(to_browser, from_browser),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._buffer, self._number, self._session = b"", 0, None
        self.events: list[dict] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Chromium:
        return self

    def __exit__(self, *exception) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE)
        os.close(self._write)
        os.close(self._read)
        self._profile.cleanup()

    def open(self, path: Path, width: int, height: int = 844, scale: float = 1) -> None:
        """Load a file in a window of `width` x `height` (a phone below 500) and wait until it is there."""
        self.events.clear()
        phone = width < 500
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": phone}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Page.navigate", url=path.absolute().as_uri())
        self._until(lambda: any(event["method"] == "Page.loadEventFired" for event in self.events))

    def evaluate(self, expression: str):
        """Value of a JavaScript expression; promises are awaited."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def complaints(self) -> list[str]:
        """Errors and warnings of the console, the log and the page's own code."""
        found = []
        for event in self.events:
            what = event["params"]
            if event["method"] == "Log.entryAdded" and what["entry"]["level"] in ("error", "warning"):
                found.append(what["entry"]["text"])
            elif event["method"] == "Runtime.consoleAPICalled" and what["type"] in ("error", "warning", "assert"):
                found.append(str(what["args"]))
            elif event["method"] == "Runtime.exceptionThrown":
                found.append(str(what["exceptionDetails"]))
        return found

    def requests(self) -> list[str]:
        """Addresses that the page asked for, other than pictures within it."""
        asked = [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]
        return [address for address in asked if not address.startswith("data:")]

    def screenshot(self, path: Path) -> None:
        """The whole page as PNG."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def call(self, method: str, **params) -> dict:
        """Result of a DevTools command."""
        self._number += 1
        number = self._number
        request = {"id": number, "method": method, "params": params}
        if self._session:
            request["sessionId"] = self._session
        os.write(self._write, json.dumps(request).encode() + b"\0")
        answers: list[dict] = []
        self._until(
            lambda: bool(answers), lambda answer: answers.append(answer) if answer.get("id") == number else None
        )
        assert "error" not in answers[0], answers[0]
        return answers[0]["result"]

    def _until(self, done, answer=lambda _: None) -> None:
        """Read what the browser sends until `done()`."""
        end = time.monotonic() + PATIENCE
        while not done():
            ready, _, _ = select.select([self._read], [], [], max(0, end - time.monotonic()))
            assert ready, f"no answer within {PATIENCE:.0f} s"
            data = os.read(self._read, 1 << 20)
            assert data, f"the browser ended with {self._process.wait(PATIENCE)}"
            *messages, self._buffer = (self._buffer + data).split(b"\0")
            for text in messages:
                message = json.loads(text)
                if "method" in message:
                    self.events.append(message)
                else:
                    answer(message)
