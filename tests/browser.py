"""A headless Chromium for tests, spoken to through its driver (W3C WebDriver) with nothing but Python's library."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
WITHOUT_BROWSER = None if BROWSER and DRIVER else "needs chromium and chromedriver (Debian: chromium, chromium-driver)"
FLAGS = (
    *("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking"),
    *("disable-component-update", "disable-sync", "disable-dev-shm-usage", "hide-scrollbars"),
)
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # how the protocol marks a reference to an element
KEYS = {"ArrowLeft": "\ue012", "ArrowUp": "\ue013", "ArrowRight": "\ue014", "ArrowDown": "\ue015", "Escape": "\ue00c"}


class Browser:
    """One window. Use it as a context manager: it ends the processes that it starts."""

    def __enter__(self) -> Browser:
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.driver = subprocess.Popen(
            [DRIVER, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        port = next(found[1] for found in map(re.compile(r"on port (\d+)\.").search, self.driver.stdout) if found)
        self.opener, self.address = build_opener(ProxyHandler({})), f"http://127.0.0.1:{port}/session"
        arguments = [*(f"--{flag}" for flag in FLAGS), f"--user-data-dir={self.profile.name}"]
        options = {
            "goog:chromeOptions": {"binary": BROWSER, "args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        }
        try:
            session = self.send("POST", "", {"capabilities": {"alwaysMatch": options}})
        except BaseException:
            self.__exit__()
            raise
        self.address += f"/{session['sessionId']}"
        return self

    def __exit__(self, *_) -> None:
        try:
            if self.address.count("/") > 3:
                self.send("DELETE", "")
        finally:
            self.driver.terminate()
            self.driver.wait(timeout=20)
            self.driver.stdout.close()
            self.profile.cleanup()

    def send(self, method: str, path: str, body: dict | None = None):
        data = None if body is None else json.dumps(body).encode()
        request = Request(self.address + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with self.opener.open(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except HTTPError as error:
            with error:
                raise RuntimeError(f"{path}: {json.load(error)['value']['message']}") from None

    def open(self, address: str) -> None:
        self.send("POST", "/url", {"url": address})

    def run(self, script: str, *arguments):
        """Return what a function body of JavaScript returns; a promise is waited for."""
        return self.send("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def click(self, selector: str) -> None:
        """Click the middle of an element as a user does: it must be in view, or scrolled to, and not covered."""
        found = self.send("POST", "/element", {"using": "css selector", "value": selector})
        self.send("POST", f"/element/{found[ELEMENT]}/click", {})

    def press(self, *keys: str) -> None:
        actions = [{"type": kind, "value": KEYS.get(key, key)} for key in keys for kind in ("keyDown", "keyUp")]
        self.send("POST", "/actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def point(self, x: float, y: float, *then: dict) -> None:
        """Move the mouse to a place in the window, CSS pixels; ``then`` are further actions of the protocol."""
        move = {"type": "pointerMove", "x": round(x), "y": round(y), "duration": 0}
        self.send("POST", "/actions", {"actions": [{"type": "pointer", "id": "mouse", "actions": [move, *then]}]})

    def wheel(self, x: float, y: float, delta: int) -> None:
        scroll = {"type": "scroll", "x": round(x), "y": round(y), "deltaX": 0, "deltaY": delta}
        self.send("POST", "/actions", {"actions": [{"type": "wheel", "id": "wheel", "actions": [scroll]}]})

    def emulate(self, width: int, height: int, *, dark: bool = False, ratio: float = 1, phone: bool = False) -> None:
        """Set the size of the window, CSS pixels, and what it tells pages of the screen."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        size = {"width": width, "height": height, "deviceScaleFactor": ratio, "mobile": phone}
        for command, params in (("DeviceMetricsOverride", size), ("EmulatedMedia", {"features": [scheme]})):
            self.send("POST", "/goog/cdp/execute", {"cmd": f"Emulation.set{command}", "params": params})

    def screenshot(self, file: Path) -> None:
        file.write_bytes(base64.b64decode(self.send("GET", "/screenshot")))

    def complaints(self) -> list[str]:
        """Return errors and warnings of the console since the last call."""
        entries = self.send("POST", "/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] in ("SEVERE", "WARNING")]
