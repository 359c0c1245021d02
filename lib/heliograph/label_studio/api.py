"""The part of Label Studio's HTTP interface that the bridge uses (https://api.labelstud.io)."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

from heliograph.core.errors import HeliographError, Refused, Unreachable

TIMEOUT = 30.0
MAX_ANSWER = 64 << 20
"""Bytes of one answer, at most."""
PAGE = 100
"""Tasks that are asked for at once."""


class LabelStudio:
    """One Label Studio, by blocking calls; a caller in an event loop makes them in a thread.

    Args:
        url: such as ``http://localhost:8080``.
        token: an access token: a personal one, which the server exchanges for short-lived ones, or a legacy one.

    Raises (every method):
        Unreachable: if the server does not answer.
        Refused: if it refuses the token or the request, with its words.
    """

    def __init__(self, url: str, token: str) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise Refused("invalid", field="url", expected="http://HOST:PORT of Label Studio, without a login in it",
                          got=parts.hostname or url)  # fmt: skip
        if not token or not token.isprintable() or " " in token:
            raise Refused("invalid", field="token", expected="an access token of Label Studio, in the variable "
                          "LABEL_STUDIO_API_KEY", got="nothing" if not token else "something else")  # fmt: skip
        self.url = url.rstrip("/")
        self._token = token
        self._personal = token.count(".") == 2  # a JWT
        self._access = ""

    def project(self, number: int) -> dict[str, Any]:
        return _mapping(self._ask("GET", f"/api/projects/{number}/"))

    def create_project(self, title: str, config: str) -> int:
        """Create a project and return its number."""
        made = _mapping(self._ask("POST", "/api/projects/", {"title": title, "label_config": config}))
        return int(made["id"])

    def find_project(self, title: str) -> int | None:
        """Return the number of the oldest project of that title; None where there is none."""
        title_only = urllib.parse.urlencode({"title": title})
        found = _rows(self._ask("GET", f"/api/projects/?{title_only}"))
        return min((int(each["id"]) for each in found if each.get("title") == title), default=None)

    def import_tasks(self, project: int, tasks: list[dict[str, Any]]) -> list[int]:
        """Import tasks and return their numbers, in order."""
        answer = _mapping(self._ask("POST", f"/api/projects/{project}/import?return_task_ids=true", tasks))
        found = answer.get("task_ids")
        if not isinstance(found, list) or len(found) != len(tasks):
            raise HeliographError(f"{self.url}: expected {len(tasks)} task_ids of an import, got {str(answer)[:200]}")
        return [int(each) for each in found]

    def tasks(self, project: int) -> Iterator[dict[str, Any]]:
        """Yield every task of a project, with its annotations."""
        page = 1
        while True:
            query = urllib.parse.urlencode({"project": project, "page": page, "page_size": PAGE, "fields": "all"})
            rows = _rows(self._ask("GET", f"/api/tasks/?{query}", missing=[]))
            yield from rows
            if len(rows) < PAGE:
                return
            page += 1

    def task(self, number: int) -> dict[str, Any]:
        """Return one task, with its annotations."""
        return _mapping(self._ask("GET", f"/api/tasks/{number}/"))

    def delete_task(self, number: int) -> None:
        self._ask("DELETE", f"/api/tasks/{number}/", missing={})

    def register_webhook(self, project: int, url: str, headers: Mapping[str, str]) -> None:
        """Have the server post to ``url`` at each change of an annotation; replace an earlier one of that URL."""
        wanted = {
            "project": project, "url": url, "send_payload": True, "is_active": True, "headers": dict(headers),
            "send_for_all_actions": False,
            "actions": ["ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_CREATED"],
        }  # fmt: skip
        for each in _rows(self._ask("GET", f"/api/webhooks/?project={project}")):
            if each.get("url") == url:
                self._ask("DELETE", f"/api/webhooks/{int(each['id'])}/", missing={})
        self._ask("POST", "/api/webhooks/", wanted)

    def _ask(self, method: str, path: str, body: Any = None, missing: Any = None) -> Any:
        """Send a request; return the answer, or ``missing`` where the server has no such thing."""
        for again in (False, True):
            try:
                return self._send(method, path, body, self._authorization(fresh=again))
            except urllib.error.HTTPError as error:
                said = error.read(4096).decode(errors="replace")
                if error.code == 401 and self._personal and not again:
                    continue  # the short-lived token has ended
                if error.code == 404 and missing is not None:
                    return missing
                raise self._refused(error.code, path, said) from None
            except (OSError, ValueError) as error:
                reason = getattr(error, "reason", error)
                raise Unreachable(f"{self.url} does not answer: {reason}") from None
        raise AssertionError("not reached")

    def _authorization(self, fresh: bool) -> str:
        if not self._personal:
            return f"Token {self._token}"
        if fresh or not self._access:
            answer = _mapping(self._send("POST", "/api/token/refresh", {"refresh": self._token}, ""))
            self._access = str(answer.get("access", ""))
        return f"Bearer {self._access}"

    def _send(self, method: str, path: str, body: Any, authorization: str) -> Any:
        headers = {"Accept": "application/json"}
        if authorization:
            headers["Authorization"] = authorization
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            text = answer.read(MAX_ANSWER + 1)
        if len(text) > MAX_ANSWER:
            raise HeliographError(f"{self.url}{path}: an answer of more than {MAX_ANSWER >> 20} MB")
        return json.loads(text) if text.strip() else {}

    def _refused(self, code: int, path: str, said: str) -> HeliographError:
        if code in (401, 403):
            return Refused("forbidden", topic=self.url, expected="an access token that may use the project",
                           got=f"status {code}: {said}", hint="Set LABEL_STUDIO_API_KEY.")  # fmt: skip
        if code >= 500:
            return Unreachable(f"{self.url}{path}: status {code}")
        return Refused("invalid", topic=f"{self.url}{path.partition('?')[0]}", expected="a request that it takes",
                       got=f"status {code}: {said}")  # fmt: skip


def _mapping(answer: Any) -> dict[str, Any]:
    if not isinstance(answer, dict):
        raise HeliographError(f"Label Studio: expected a mapping, got {str(answer)[:200]}")
    return answer


def _rows(answer: Any) -> list[dict[str, Any]]:
    """Return the rows of a list, plain or in pages."""
    found = answer
    if isinstance(answer, dict):
        found = answer.get("results", answer.get("tasks"))
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise HeliographError(f"Label Studio: expected a list, got {str(answer)[:200]}")
    return found
