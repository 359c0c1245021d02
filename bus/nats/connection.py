"""A connection to a NATS server: it reconnects without end, translates the client's errors, calls JetStream's API."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from heliograph.bus.arriving_blob import SEQUENCE
from heliograph.bus.connection_url import ConnectionUrl
from heliograph.bus.contract import registry
from heliograph.bus.contract.permissions import inbox_of_login
from heliograph.bus.contract.subjects import Subjects
from heliograph.bus.link import Link
from heliograph.bus.link_life import AnswerWait
from heliograph.bus.link_pace import LinkPace
from heliograph.bus.nats.library_client import HeliographClient
from heliograph.bus.reconnecting import Reconnecting
from heliograph.core.errors import Forbidden, HeliographError, LinkDown, NobodyAnswers, Refused, StoreFull, Unreachable
from heliograph.core.tasks import cancel_and_wait, keep_cancellation
from heliograph.core.world import World

logging.getLogger("nats").addHandler(logging.NullHandler())  # this module reports lost connections itself

T = TypeVar("T")
REQUEST_TIMEOUT = 5.0
CLUSTER_TIMEOUT = 2.0
"""Seconds to wait for a cluster's answer: what a server was killed with is never answered, and is sent again."""
FOR_EVER = 86_400.0
"""Seconds that the client library waits for an answer: whoever asks ends the call, by what the link does."""
DOWN = (nats.errors.Error, OSError, asyncio.TimeoutError)
"""Errors of the client library when the broker is away or does not answer."""
_VIOLATION = re.compile(r'permissions violation for (publish|subscription) to "([^"]+)"', re.IGNORECASE)
_LOGIN_REFUSED = re.compile(r"authorization violation|authentication (expired|revoked)", re.IGNORECASE)
_NO_STREAM = 10059
_NO_ROOM = (10023, 10047)
"""JetStream's codes for too few resources."""
_NO_PLACE, _NO_STORAGE = 10005, "insufficient storage"
"""JetStream's code where no server of a cluster takes a stream, and its words where that is for want of room."""
_LEADERLESS = (10004, 10007, 10008, 10009, 10118, 10119)
"""JetStream's codes while the servers of a cluster have no leader, or not the one that was asked."""
_NOT_ENABLED = (10039, 10076)
"""JetStream's codes for an account without it, and for one that a server of a cluster is still setting up."""
_STORE_FULL = (10002, *_NO_ROOM)
_STORE_FAILED = 10077
"""JetStream's code where a store takes no message; its words tell whether there is no room."""
_FULL_WORDS = re.compile(r"maximum (messages|bytes)|no space left|resource")


class _Timer:
    """A timer that is set again and again."""

    handle: asyncio.TimerHandle | None = None

    def cancel(self) -> None:
        if self.handle is not None:
            self.handle.cancel()


class NoRoom(HeliographError):
    """The broker's disk has no room for what a new stream reserves."""


def has_no_room(answer: Mapping[str, Any]) -> bool:
    """Return whether JetStream's answer says that the disk has no room."""
    error = answer.get("error", {})
    code = error.get("err_code")
    return code in _NO_ROOM or (code == _NO_PLACE and _NO_STORAGE in str(error.get("description")))


def has_no_stream(answer: Mapping[str, Any]) -> bool:
    """Return whether JetStream's answer says that there is no such stream."""
    return bool(answer.get("error", {}).get("err_code") == _NO_STREAM)


class NatsConnection:
    """The connection that bus, consumers, buckets and blobs of this transport share.

    Args:
        link: set up and down with the connection.
        inbox: prefix of the subjects that receive answers; by default that of the URL's login.
        on_slow: called when the client drops a message because its reader is slow.
    """

    def __init__(
        self,
        url: ConnectionUrl,
        subjects: Subjects,
        world: World,
        link: Link,
        name: str,
        inbox: str = "",
        on_slow: Callable[[], None] = lambda: None,
    ) -> None:
        self.url = url
        self.subjects = subjects
        self.world = world
        self.link = link
        link.pace = LinkPace()
        self.inbox = inbox or inbox_of_login(url.credentials.name)
        self.replicas = 0
        """Replicas of the streams that are made by this connection; 0 for one, and as they are of those that exist."""
        self.unreported_refusals = 0
        """Number of messages that the login may not publish, and whose publisher awaited no answer."""
        self._name = name
        self._on_slow = on_slow
        self._reconnecting = Reconnecting(world, len(url.places))
        self._client = HeliographClient(url, world, self._lost, self._reconnecting, link.pace)
        self._connecting: asyncio.Task[None] | None = None
        self._waiting: dict[asyncio.Timeout, str] = {}
        """Calls under way, with the subject of the request that each waits for."""
        self._refused: dict[asyncio.Timeout, str] = {}
        """Calls that the broker refused, with the reason to report even if the connection goes down afterwards."""
        self._late: set[asyncio.Timeout] = set()
        """Calls whose answer has not come in time."""
        self._watching: dict[tuple[str, str], list[Callable[[], None]]] = {}
        self._no_answers = ""

    async def open(self) -> None:
        """Start connecting and return at once. Raises Refused if the URL's scheme or TLS files cannot be used."""
        self._client.check()
        self._connecting = asyncio.create_task(self._connect())

    async def close(self) -> None:
        if self._connecting is not None:
            await cancel_and_wait(self._connecting)
        with contextlib.suppress(*DOWN):
            if self._client.is_connected:
                await self._client.flush(timeout=1)
        running = self._client.tasks()
        with contextlib.suppress(*DOWN, AssertionError):  # the latter where it had not begun to connect
            await self._client.close()
        # a connection lost at this very moment starts another reconnection
        await cancel_and_wait(*{*running, *self._client.tasks()})
        self.link.set(False)

    @property
    def client(self) -> Client:
        """The connected client. Raises Forbidden if the broker refuses the login, Unreachable if the link is down."""
        if not self._client.is_connected:
            if self.link.refused:
                raise Forbidden(f"{self.url.shown} refuses this login: {self.link.refused}")
            raise Unreachable(f"{self.url.shown} is not connected ({self.link.last_error or 'link down'})")
        return self._client

    @property
    def broker_certificate(self) -> Mapping[str, Any]:
        """What the broker's certificate says; see ``HeliographClient``."""
        return self._client.broker_certificate

    @property
    def clustered(self) -> bool:
        """Whether the server that was reached last is one of a cluster."""
        return self._client.clustered

    @property
    def server_id(self) -> str:
        """The id of the server that was reached last."""
        return self._client.server_id

    def within(self, seconds: float) -> float:
        """Return how long to wait for an answer of JetStream, of these seconds."""
        return min(seconds, CLUSTER_TIMEOUT) if self.clustered else seconds

    async def guard(
        self, call: Awaitable[T], subject: str = "", seconds: float | None = None, size: int = 0
    ) -> T:
        """Await a call of the client, and translate its errors.

        Raises Forbidden after a refusal, even if the connection goes down right after it; LinkDown, Unreachable,
        NobodyAnswers or Refused otherwise.

        Args:
            subject: subject of the request, if the call waits for its answer.
            seconds: time for the answer on a fast link, from when the broker's machine has what was sent.
            size: bytes that the call sends.
        """
        waiting = asyncio.timeout(None)
        self._waiting[waiting] = subject
        timer = self._end_late(waiting, seconds, size) if seconds is not None else None
        try:
            async with waiting:
                return await keep_cancellation(call)
        except DOWN as error:
            if why := self._refused.get(waiting):
                raise Forbidden(f"{self.url.shown}: {why}") from None
            raise self._translated(error, waiting.expired() and waiting not in self._late) from None
        finally:
            if timer is not None:
                timer.cancel()
            self._late.discard(waiting)
            self._waiting.pop(waiting, None)
            self._refused.pop(waiting, None)

    def _end_late(self, waiting: asyncio.Timeout, seconds: float, size: int) -> _Timer:
        """End a call that gets no answer in time. While the connection takes what was sent, no time passes."""
        timer, loop = _Timer(), asyncio.get_running_loop()
        life = self._client.life
        now = self.world.monotonic()
        wait = AnswerWait(life, self.link.pace, seconds, size, now) if life is not None else None

        def check() -> None:
            self._client.look()
            left = (wait.due() if wait is not None else now + seconds) - self.world.monotonic()
            if left > 0:
                timer.handle = loop.call_later(left, check)
            else:
                self._late.add(waiting)
                self._end([waiting])

        timer.handle = loop.call_later(seconds, check)
        return timer

    def _translated(self, error: Exception, expired: bool) -> Exception:
        if isinstance(error, nats.errors.NoRespondersError):
            return NobodyAnswers(f"{self.url.shown}: nobody answers; is the coordinator running?")
        if isinstance(error, nats.errors.MaxPayloadError):
            return Refused("too-large", expected=f"at most {self._client.max_payload} bytes, the broker's max_payload")
        if expired or not self._client.is_connected:
            return LinkDown(f"{self.url.shown}: the link went down")
        what = "no answer in time" if isinstance(error, TimeoutError) else (str(error) or type(error).__name__)
        return Unreachable(f"{self.url.shown}: {what}")

    async def request(
        self,
        subject: str,
        body: bytes = b"",
        timeout: float = REQUEST_TIMEOUT,
        headers: Mapping[str, str] | None = None,
    ) -> Msg:
        """Send a request, also to the server itself (``$JS.API.…``, ``$SYS.…``), and return its answer.

        Raises as ``guard`` does, and Forbidden if this login may not receive answers.
        """
        client = self.client
        if self._no_answers:
            raise Forbidden(f"{self.url.shown}: {self._no_answers}")
        sent = dict(headers) if headers else None
        call = client.request(subject, body, timeout=FOR_EVER, headers=sent)
        return await self.guard(call, subject, timeout, len(body))

    async def ask(self, subject: str, document: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Send a request to JetStream's API, and return its answer as a tree. Raise Unreachable too while the servers
        of a cluster elect a leader."""
        body = b"" if document is None else json.dumps(document).encode()
        answer = json.loads((await self.request(subject, body, self.within(REQUEST_TIMEOUT))).data)
        assert isinstance(answer, dict)
        error = answer.get("error", {})
        code = error.get("err_code")
        if code in _LEADERLESS or (code in _NOT_ENABLED and self.clustered):
            raise Unreachable(f"{self.url.shown}: {error.get('description')}")
        return answer

    async def counted_subjects(self, stream: str, subject: str) -> dict[str, int]:
        """Return the subjects of a stream that match, each with its number of messages; the broker names a hundred
        thousand in one answer."""
        found: dict[str, int] = {}
        while True:
            asked = {"subjects_filter": subject, "offset": len(found)}
            answer = await self.ask(f"$JS.API.STREAM.INFO.{stream}", asked)
            page = answer.get("state", {}).get("subjects") or {}
            found |= page
            if not page or len(found) >= int(answer.get("total", 0)):
                return found

    async def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription; do nothing if the link is down, which has ended it."""
        with contextlib.suppress(*DOWN):
            await subscription.unsubscribe()

    async def settle(self) -> None:
        """Wait until the broker has processed everything sent before."""
        for _ in range(2):  # nats-py's first PING overtakes its buffered messages
            await keep_cancellation(self._client.flush(timeout=2))

    async def stream_config(self, name: str) -> dict[str, Any] | None:
        """Return the configuration of a stream; None where there is none of that name."""
        answer = await self.ask(f"$JS.API.STREAM.INFO.{name}")
        found: dict[str, Any] | None = answer.get("config")
        return found

    async def streams(self) -> tuple[list[dict[str, Any]], list[str]]:
        """Return what the broker says of each of the account's streams, and the names of those that no server leads at
        present."""
        found: list[dict[str, Any]] = []
        leaderless: list[str] = []
        while True:
            seen = len(found) + len(leaderless)
            answer = await self.ask("$JS.API.STREAM.LIST", {"offset": seen})
            if "error" in answer:
                raise HeliographError(f"the list of streams: {answer['error'].get('description')}")
            found += answer.get("streams") or ()
            leaderless += answer.get("missing") or ()
            if len(found) + len(leaderless) in (seen, int(answer.get("total", 0))):
                return found, sorted(leaderless)

    @contextmanager
    def on_refusal(self, verb: str, subject: str, refused: Callable[[], None]) -> Iterator[None]:
        """Call ``refused`` each time the broker refuses ``verb``, ``publish`` or ``subscription``, on a subject."""
        key = (verb, subject.lower())  # the client library lowers the case of all errors
        self._watching.setdefault(key, []).append(refused)
        try:
            yield
        finally:
            self._watching[key].remove(refused)
            if not self._watching[key]:
                del self._watching[key]

    async def _connect(self) -> None:
        login = self.url.credentials
        while True:
            try:
                await self._client.connect(
                    [f"{self.url.scheme}://{address}{self.url.path}" for address in self.url.addresses],
                    name=self._name,
                    user=login.user or None,
                    password=login.password if login.user else None,
                    token=login.token or None,
                    signature_cb=self._client.sign if login.file else None,
                    user_jwt_cb=self._client.user_token if login.file else None,
                    inbox_prefix=self.inbox,
                    allow_reconnect=True,
                    max_reconnect_attempts=-1,
                    tls_handshake_first=self.url.handshakes_first,
                    ping_interval=self.url.patience / 2,  # type: ignore[arg-type]
                    error_cb=self._on_error,
                    disconnected_cb=self._on_down,
                    reconnected_cb=self._on_up,
                    closed_cb=self._on_down,
                )
            except (*DOWN, Refused) as error:  # the file of credentials may come later
                await self._on_error(error)
                await self._reconnecting.pause()
                self._client = HeliographClient(self.url, self.world, self._lost, self._reconnecting, self.link.pace)
            else:
                self.link.set(True)
                return

    async def _on_error(self, error: Exception) -> None:
        if _LOGIN_REFUSED.search(str(error)):
            self.link.refused = str(error)
        self.link.fail(error)
        if match := _VIOLATION.search(self.link.last_error):
            self._on_violation(match.group(1).lower(), match.group(2))
        if isinstance(error, nats.errors.SlowConsumerError):
            self._on_slow()

    def _on_violation(self, verb: str, subject: str) -> None:
        """Handle the broker's refusal of a publish or a subscription: end the calls that wait for an answer to it."""
        key = subject.lower()
        for refused in list(self._watching.get((verb, key), ())):
            refused()
        if verb == "publish":
            reason = f"this login may not publish to {subject}"
            refused_calls = {each: awaited for each, awaited in self._waiting.items() if awaited.lower() == key}
            if not refused_calls and self._nobody_awaits(subject):
                self.unreported_refusals += 1
        elif key.startswith(self.inbox.lower() + ".") and key.endswith(".*"):  # it receives all answers
            reason = self._no_answers = f"this login may not receive answers on {subject}"
            refused_calls = {each: awaited for each, awaited in self._waiting.items() if awaited}
        else:
            return
        self._refused |= dict.fromkeys(refused_calls, reason)
        self._end(refused_calls)

    def _nobody_awaits(self, subject: str) -> bool:
        """Return whether the publisher of a subject's messages awaits no answer."""
        if not self.subjects.is_ours(subject):
            return False
        declared, _ = registry.lookup(self.subjects.address(subject))
        return declared is None or not declared.awaits_storing

    def _lost(self) -> None:
        ended, self._waiting = self._waiting, {}
        self._end(ended)  # the answers are lost with the connection: waiting on would delay a replay
        self.link.set(False)

    async def _on_down(self) -> None:
        self._lost()

    async def _on_up(self) -> None:
        self._no_answers = ""  # the client has subscribed again
        self.link.set(True)

    def _end(self, calls: Iterable[asyncio.Timeout]) -> None:
        now = asyncio.get_running_loop().time()
        for each in calls:
            if not each.expired():  # one that is just ending would raise here, and end the client's reading task
                each.reschedule(now)


def is_missing(answer: Msg) -> bool:
    """Return whether a direct get found no message. A publisher may give a stored message a header ``Status`` too."""
    headers = answer.headers or {}
    return headers.get("Status") == "404" and SEQUENCE not in headers


def time_of(answer: Msg) -> float:
    """Return the time at which the broker stored a message that a direct get found, in seconds since 1970."""
    return time_told((answer.headers or {})["Nats-Time-Stamp"])


def time_told(text: str) -> float:
    """Return a time that the broker tells to the nanosecond, in seconds since 1970."""
    return datetime.fromisoformat(text[:26].rstrip("Z") + "+00:00").timestamp()


def stored_at(answer: bytes, what: str) -> int:
    """Return the sequence at which a stream stored a message. Raises Unreachable if it did not."""
    reply = json.loads(answer)
    if "error" in reply:
        full = is_full(reply["error"])
        why = f"{what} was not stored: {reply['error'].get('description')}"
        raise StoreFull(f"{why}; {MAKE_ROOM}") if full else Unreachable(why)
    return int(reply["seq"])


MAKE_ROOM = "it is stored once there is room; 'heliograph get edges cloud -o yaml' says which store is full"


def is_full(error: Mapping[str, Any]) -> bool:
    """Return whether JetStream refused a message because its store has no room."""
    code, words = error.get("err_code"), str(error.get("description"))
    return code in _STORE_FULL or (code == _STORE_FAILED and _FULL_WORDS.search(words) is not None)
