"""A page that is served to a browser, with a task for it; what came of the task comes back."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
_TYPES = {".html": "text/html", ".js": "text/javascript", ".json": "application/json"}


def find_browser() -> str | None:
    """Return the path of Chromium; None where it is not installed."""
    return next((found for name in CHROMIUM if (found := shutil.which(name))), None)


class WebPage:
    """Serves ``/`` and the files beside it on a port of this machine."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = files
        self._task: Mapping[str, Any] = {}
        self._result: asyncio.Future[Any]
        page = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page._answer(self)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(204)
                self.end_headers()
                page._loop.call_soon_threadsafe(page._finish, json.loads(body))

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    async def run(self, browser: str, task: Mapping[str, Any], profile: Path, timeout: float) -> Any:
        """Open the page in a browser, and return what came of the task."""
        self._loop = asyncio.get_running_loop()
        self._task, self._result = task, self._loop.create_future()
        process = await asyncio.create_subprocess_exec(
            browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            f"--user-data-dir={profile}", self.origin, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            async with asyncio.timeout(timeout):
                return await self._result
        finally:
            process.terminate()
            await process.wait()

    def _finish(self, result: Any) -> None:
        if not self._result.done():
            self._result.set_result(result)

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        name = request.path.removeprefix("/") or "page.html"
        if name == "task":
            kind, body = _TYPES[".json"], json.dumps(self._task).encode()
        elif name in self._files:
            kind, body = _TYPES[self._files[name].suffix], self._files[name].read_bytes()
        else:
            request.send_error(404)
            return
        request.send_response(200)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)
