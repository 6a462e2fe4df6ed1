"""
A headless Chromium on a page of ours, and the tiny server that the page comes from.

The page tells that server what happens to it (`page.html`), so a test waits for events and drives nothing.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

HERE = Path(__file__).parent
BUNDLE = HERE.parent / "node" / "node_modules" / "centrifuge" / "dist" / "centrifuge.js"
NAMES = ("chromium", "chromium-browser", "google-chrome")
SWITCHES = (
    "--headless",
    "--no-sandbox",  # tests may run as root, where Chromium's sandbox cannot
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
PATIENCE_S = 30.0


def find_chromium() -> str | None:
    """Return the program, or None."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class PageServer(ThreadingHTTPServer):
    """
    Serves the page and the stock client from an origin of its own.

    Attributes:
        told: What the page has said, oldest first, each once.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), PageHandler)
        self.told: queue.Queue[dict[str, Any]] = queue.Queue()

    @property
    def origin(self) -> str:
        """What a browser calls this server."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def page(self, **asked: str) -> str:
        """Return the address of the page that is asked to do this."""
        return f"{self.origin}/?{urlencode(asked)}"

    def until(self, event: str) -> dict[str, Any]:
        """Wait until the page says *event*; what it said before is forgotten."""
        due_s = time.monotonic() + PATIENCE_S
        heard = []
        with suppress(queue.Empty):
            while True:
                said = self.told.get(timeout=max(0.0, due_s - time.monotonic()))
                heard.append(said)
                if said["event"] == event:
                    return said
        raise AssertionError(f"the page did not say {event!r}; it said {heard}")


class PageHandler(BaseHTTPRequestHandler):
    """Two files, and one path that takes what the page says."""

    server: PageServer

    def do_GET(self) -> None:
        """Serve the page or the client library."""
        path = urlsplit(self.path).path
        kinds = {"/": (HERE / "page.html", "text/html"), "/centrifuge.js": (BUNDLE, "text/javascript")}
        if path not in kinds:
            self.send_error(404)
            return
        file, kind = kinds[path]
        self.answer(file.read_bytes(), kind)

    def do_POST(self) -> None:
        """Take what the page says."""
        self.server.told.put(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.answer(b"", "text/plain")

    def answer(self, body: bytes, kind: str) -> None:
        """Send one whole answer."""
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


@contextmanager
def page_server() -> Iterator[PageServer]:
    """Serve pages for the length of a `with` block."""
    with PageServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def browser_at(address: str, folder: Path) -> Iterator[None]:
    """Show *address* in a browser of its own, which keeps everything in *folder* and ends with the block."""
    program = find_chromium()
    assert program is not None
    with (folder / "chromium.log").open("wb") as log:
        process = subprocess.Popen(
            [program, *SWITCHES, f"--user-data-dir={folder / 'profile'}", address],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "HOME": str(folder)},
        )
        try:
            yield
        finally:
            # Its renderers are processes of their own, all in the session that began here.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
