"""A double of Label Studio: it answers over HTTP what the real one has answered, in the recorded order.

``tests/data/label_studio/exchanges.json`` was recorded from label-studio 1.23.2 by the functions of
``heliograph.label_studio.api``; people's part was played over its HTTP interface.
"""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

EXCHANGES: dict[str, Any] = json.loads((Path(__file__).parents[2] / "data/label_studio/exchanges.json").read_text())


class Double:
    """The exchanges of one session. A request that the real one never got is answered with status 418.

    Attributes:
        differing: bodies that are not what was recorded, with what was.
        asked: method and path of each request.
    """

    def __init__(self, session: str) -> None:
        self._answers: defaultdict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
        for each in EXCHANGES[session]:
            self._answers[each["method"], each["path"]].append(each)
        self.differing: list[tuple[Any, Any]] = []
        self.asked: list[str] = []
        double = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, answer = double.answer(self.command, self.path, json.loads(body) if body else None)
                text = answer if isinstance(answer, str) else json.dumps(answer)
                self.send_response(status)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            do_GET = do_POST = do_DELETE = answer

            def log_message(self, *_: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """Return the next recorded answer; the last one again and again."""
        self.asked.append(f"{method} {path.partition('?')[0]}")
        recorded = self._answers.get((method, path))
        if not recorded:
            return 418, {"detail": f"{method} {path} was never recorded"}
        found = recorded.pop(0) if len(recorded) > 1 else recorded[0]
        if body != found["body"]:
            self.differing.append((body, found["body"]))
        return found["status"], found["answer"]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
