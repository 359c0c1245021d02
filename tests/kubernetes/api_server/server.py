"""The HTTP side of the API server: paths, verbs, and answers."""

from __future__ import annotations

import asyncio
import json
import re
from functools import cache
from pathlib import Path
from ssl import SSLContext
from typing import Any

import yaml
from aiohttp import web

from tests.kubernetes.api_server.collector import Collector
from tests.kubernetes.api_server.discovery import discovered
from tests.kubernetes.api_server.failure import Failure, PlainNotFound, bad_request, forbidden, not_allowed
from tests.kubernetes.api_server.faults import Faults
from tests.kubernetes.api_server.kinds import DEFINITIONS, NAMESPACES, Served
from tests.kubernetes.api_server.merge_patch import merged
from tests.kubernetes.api_server.openapi import ROOT as OPENAPI
from tests.kubernetes.api_server.openapi import document
from tests.kubernetes.api_server.pages import Pages
from tests.kubernetes.api_server.registry import Registry
from tests.kubernetes.api_server.selectors import selection
from tests.kubernetes.api_server.store import HISTORY, Store
from tests.kubernetes.api_server.table import table, wanted
from tests.kubernetes.api_server.watches import watch

Object = dict[str, Any]
ROOT = Path(__file__).parents[3]
CRDS = ROOT / "deploy" / "crds"
MAX_BODY = 3 << 20
SAFE = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
PATH = re.compile(
    r"/(?:api/(?P<core>v1)|apis/(?P<group>[^/]+)/(?P<version>[^/]+))"
    r"(?:/namespaces/(?P<namespace>[^/]+)(?=/[^/]+))?"
    r"/(?P<plural>[^/]+)(?:/(?P<name>[^/]+)(?:/(?P<subresource>status))?)?/?"
)
APPLY, STRATEGIC = "application/apply-patch+yaml", "application/strategic-merge-patch+json"
PATCHES = {"application/merge-patch+json", APPLY, STRATEGIC}
"""All are merged as RFC 7396 says, also what is applied by the server: there is one owner of all fields."""
VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
USER = "system:serviceaccount:default:tests"


class ApiServer:
    """A server on a free port of the loopback.

    Args:
        token: the bearer token that each request must have; empty for none.
        bookmark_seconds: time between two bookmarks of a watch.
        tls: speaks TLS by this context; None for HTTP in clear text.

    Attributes:
        faults: what goes wrong; a test changes it at any time.
        requests: verb and path of each request, the newest last.
        watching: how many watches are open.
        watched: set when a watch is opened.
    """

    def __init__(
        self, token: str = "", history: int = HISTORY, bookmark_seconds: float = 60.0, tls: SSLContext | None = None
    ) -> None:
        self.faults = Faults()
        self.requests: list[tuple[str, str]] = []
        self.watching = 0
        self.watched = asyncio.Event()
        self.store = Store(history)
        self.registry = Registry(self.store)
        self.port = 0
        self._token = token
        self._tls = tls
        self._bookmark_seconds = bookmark_seconds
        self._pages = Pages(self.store)
        self._collector = Collector(self.registry)
        self._runner: web.AppRunner | None = None
        for name in ("default", "kube-system"):
            self.registry.create(NAMESPACES, "", {"metadata": {"name": name}}, "server")

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen; on the same port as before, if it was stopped."""
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True, ssl_context=self._tls)
        await site.start()
        if not self.port:
            self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """End all connections and refuse new ones, as if the server were gone. What it stores stays."""
        if self._runner is not None:
            for connection in self._runner.server.connections if self._runner.server else ():
                if connection.transport is not None:
                    connection.transport.abort()
            await self._runner.cleanup()
            self._runner = None

    def apply_definitions(self, directory: Path = CRDS) -> None:
        """Create the definitions of custom resources in a directory."""
        for definition in json.loads(_definitions(directory)):
            self.registry.create(DEFINITIONS, "", definition, "server")

    def kubeconfig(self, directory: Path) -> Path:
        """Write a kubeconfig that reaches this server, and return its path."""
        user = {"token": self._token} if self._token else {}
        config = {
            "apiVersion": "v1", "kind": "Config", "current-context": "tests",
            "clusters": [{"name": "tests", "cluster": {"server": self.url}}],
            "users": [{"name": "tests", "user": user}],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests"}}],
        }  # fmt: skip
        file = directory / "kubeconfig"
        file.write_text(yaml.safe_dump(config))
        return file

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path_qs))
        await self.faults.delay()
        try:
            if self.faults.status:
                raise Failure(self.faults.status, "Fault", "the test wants it")
            if self.faults.garbage is not None:
                return web.Response(text=self.faults.garbage)
            if self._token and _bearer(request) != self._token:
                raise Failure(401, "Unauthorized", "Unauthorized")
            return await self._answer(request)
        except PlainNotFound:
            return web.Response(status=404, text="404 page not found\n")
        except Failure as failure:
            headers = {"Retry-After": self.faults.retry_after} if self.faults.retry_after else {}
            return web.json_response(failure.status, status=failure.code, headers=headers)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        found = PATH.fullmatch(request.path)
        if request.path.startswith(OPENAPI):
            return web.json_response(document(request.path, self.registry.kinds))
        if found is None:
            return web.json_response(discovered(request.path, self.registry.kinds))
        kind = self.registry.kind(found["group"] or "", found["core"] or found["version"], found["plural"])
        namespace, name, subresource = (found[each] or "" for each in ("namespace", "name", "subresource"))
        if (subresource and not kind.status) or (name and kind.namespaced != bool(namespace)):
            raise PlainNotFound
        query = request.query
        if request.method == "GET":
            watches = query.get("watch") in ("true", "1")
            verb = "get" if name else "watch" if watches else "list"
        else:
            verb = VERBS.get(request.method, "")
        self._check_allowed(_bearer(request), verb, kind, namespace, name, subresource)
        if request.method == "GET":
            if name:
                given = self.registry.get(kind, namespace, name)
                return web.json_response(table(kind, given) if self._wants_table(request) else given)
            selected = selection(query.get("labelSelector", ""), query.get("fieldSelector", ""))
            if watches:
                return await self._watch(request, kind, namespace, selected)
            limit = int(query.get("limit") or 0)
            listed = self._pages.list(kind, namespace, selected, limit, query.get("continue", ""))
            return self._listed(table(kind, listed) if self._wants_table(request) else listed)
        return await self._write(request, kind, namespace, name, subresource)

    @staticmethod
    def _wants_table(request: web.Request) -> bool:
        return wanted(request.headers.get("Accept", ""))

    def _listed(self, found: Object) -> web.Response:
        text = json.dumps(found)
        if self.faults.closed_body:
            return web.Response(text=text[: len(text) // 2], content_type="application/json")
        return web.Response(text=text, content_type="application/json")

    async def _write(
        self, request: web.Request, kind: Served, namespace: str, name: str, subresource: str
    ) -> web.Response:
        manager = request.headers.get("User-Agent", "unknown").partition("/")[0]
        strict = request.query.get("fieldValidation") == "Strict"
        body = await self._body(request)
        if request.method == "DELETE":
            if not name:
                raise not_allowed()
            given, gone = self.registry.delete(kind, namespace, name, body)
            if gone:
                details = {"name": name, "group": kind.group, "kind": kind.plural, "uid": given["metadata"]["uid"]}
                given = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
            return web.json_response(given)
        if request.method == "POST" and not name:
            if kind.namespaced and not namespace:
                raise not_allowed()
            return web.json_response(self.registry.create(kind, namespace, body, manager, strict), status=201)
        if request.method == "PATCH" and name:
            self._check_patch(request, kind)
            if request.content_type == APPLY and self.store.get(kind.resource, (namespace, name)) is None:
                return web.json_response(self.registry.create(kind, namespace, body, manager, strict), status=201)
            before = self.registry.get(kind, namespace, name)
            body = merged(before, body)
            return web.json_response(
                self.registry.update(kind, namespace, name, body, manager, subresource, strict, patched=True)
            )
        if request.method == "PUT" and name:
            return web.json_response(self.registry.update(kind, namespace, name, body, manager, subresource, strict))
        raise not_allowed()

    async def _watch(self, request: web.Request, kind: Served, namespace: str, selected: Any) -> web.StreamResponse:
        query = request.query
        seconds = float(query.get("timeoutSeconds") or 1800)
        bookmarks = self._bookmark_seconds if query.get("allowWatchBookmarks") == "true" else None
        version = query.get("resourceVersion", "")
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        self.watching += 1
        try:
            await response.prepare(request)
            self.watched.set()
            if self.faults.silent_watches:
                await asyncio.Event().wait()
            if self.faults.expires_watches:
                version = "1"
                self.store.forget()
            if self.faults.ends_watches:
                return response
            initial = query.get("sendInitialEvents") == "true"
            async for line in watch(self.registry, kind, namespace, selected, version, seconds, bookmarks, initial):
                await response.write(line)
            return response
        except ConnectionResetError:  # the client has gone
            return response
        finally:
            self.watching -= 1

    def _check_allowed(
        self, token: str, verb: str, kind: Served, namespace: str, name: str, subresource: str
    ) -> None:
        resource = f"{kind.resource}/{subresource}" if subresource else kind.resource
        if not self.faults.is_forbidden(verb, resource, namespace, token):
            return
        where = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
        asked = f"{kind.plural}/{subresource}" if subresource else kind.plural
        raise forbidden(kind.group, kind.plural, name, f'User "{USER}" cannot {verb} resource "{asked}" in API group'
                        f' "{kind.group}" {where}')  # fmt: skip

    @staticmethod
    def _check_patch(request: web.Request, kind: Served) -> None:
        allowed = PATCHES if kind.schema is None else PATCHES - {STRATEGIC}
        if request.content_type not in allowed:
            raise Failure(415, "UnsupportedMediaType", "the body of the request was in an unknown format - accepted"
                          f" media types include: {', '.join(sorted(allowed))}")  # fmt: skip

    @staticmethod
    async def _body(request: web.Request) -> Object:
        try:
            text = await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise Failure(413, "RequestEntityTooLarge", f"Request entity too large: limit is {MAX_BODY}") from None
        if not text and request.method == "DELETE":
            return {}
        try:
            found = yaml.load(text, SAFE) if request.content_type == APPLY else json.loads(text)
        except (ValueError, RecursionError, yaml.YAMLError):
            raise bad_request("the object provided is unrecognized: invalid character") from None
        if not isinstance(found, dict):
            raise bad_request("the object provided is unrecognized")
        return found


def _bearer(request: web.Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" else ""


@cache
def _definitions(directory: Path) -> str:
    """Return the definitions in a directory as JSON: to read their YAML takes longer than most tests."""
    return json.dumps([yaml.load(file.read_text(), SAFE) for file in sorted(directory.glob("*.yaml"))])
