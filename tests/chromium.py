"""A real browser, told what to do over its debugging pipe."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_PATIENCE = 30.0


class Chromium:
    """One tab. `console`: what pages and the browser's own rules complained about."""

    def __init__(self, write: int, read: int) -> None:
        self._write, self._read = os.fdopen(write, "wb"), os.fdopen(read, "rb")
        self._rest = b""
        self._number = 0
        self._session: str | None = None
        self.console: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        """A command of the debugging protocol; its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._write.write(json.dumps(message).encode() + b"\0")
        self._write.flush()
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def open(self, url: str) -> None:
        """Shows a page; returns when it is loaded."""
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def ask(self, script: str) -> Any:
        """What an expression gives in the page."""
        return self.call("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def until(self, script: str) -> None:
        """Waits until an expression holds."""
        deadline = time.monotonic() + _PATIENCE
        while not self.ask(script):
            assert time.monotonic() < deadline, (script, self.ask("document.documentElement.outerHTML"))
            time.sleep(0.05)

    def picture(self, path: Path) -> None:
        """What it shows, as PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def close(self) -> None:
        self._write.close()
        self._read.close()

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            piece = os.read(self._read.fileno(), 1 << 16)
            assert piece, "the browser ended"
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\0")
        message = json.loads(line)
        if message.get("method") == "Log.entryAdded":
            self.console.append(message["params"]["entry"]["text"])
        if message.get("method") == "Runtime.exceptionThrown":
            self.console.append(str(message["params"]))
        return message


@contextmanager
def chromium(folder: Path) -> Iterator[Chromium]:
    """It runs meanwhile, with a profile of its own."""
    to, write = os.pipe()
    read, from_ = os.pipe()

    def given() -> None:
        # What a child gets as 3 and 4 it reads from and writes to; by way of numbers that are neither.
        os.dup2(os.dup(to), 100)
        os.dup2(os.dup(from_), 101)
        os.dup2(100, 3)
        os.dup2(101, 4)

    with (folder / "chromium.log").open("wb") as said:
        process = subprocess.Popen(
            ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe",
             "--window-size=900,700", f"--user-data-dir={folder / 'profile'}"],
            stdin=subprocess.DEVNULL, stdout=said, stderr=said, preexec_fn=given, close_fds=False,
        )  # fmt: skip
    os.close(to)
    os.close(from_)
    browser = Chromium(write, read)
    try:
        yield browser
    finally:
        browser.close()
        process.terminate()
        process.wait(20)
