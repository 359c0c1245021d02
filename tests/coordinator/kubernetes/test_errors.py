"""Each refusal of an API server is told apart by what its caller does next, and says what a person does next."""

from __future__ import annotations

import json
from typing import Any

import pytest

from heliograph.coordinator.kubernetes import errors
from heliograph.coordinator.kubernetes.errors import Asked, error_of
from heliograph.core.errors import Forbidden as CoreForbidden
from heliograph.core.errors import HeliographError, Unreachable

ASKED = Asked("update", "models.edgeai.io", "berlin", "digits")


def status(reason: str, message: str = "m", **details: Any) -> bytes:
    return json.dumps({"kind": "Status", "reason": reason, "message": message, "details": details}).encode()


@pytest.mark.parametrize(("code", "body", "kind", "says"), [
    (401, status("Unauthorized"), errors.Unauthorized, "renew"),
    (403, status("Forbidden", 'User "x" cannot update resource "models" in API group "edgeai.io"'), errors.Forbidden,
     "needs the verb 'update' on 'models.edgeai.io' in namespace berlin"),
    (403, b"forbidden", errors.Forbidden, "needs the verb 'update' on 'models.edgeai.io' in namespace berlin"),
    (403, status("Forbidden", "exceeded quota: q, used: 1, limited: 1"), errors.Forbidden,
     "forbidden (exceeded quota: q, used: 1, limited: 1)"),
    (403, status("Forbidden", "create not allowed while custom resource definition is terminating"), errors.Ending,
     "wait until it is gone"),
    (403, status("Forbidden", "no new content", causes=[{"reason": "NamespaceTerminating"}]), errors.Ending,
     "being removed (no new content)"),
    (404, status("NotFound", name="digits"), errors.NotFound, "not found"),
    (404, status("NotFound"), errors.NotServed, "kubectl apply --server-side -f deploy/crds"),
    (404, b"404 page not found\n", errors.NotServed, "does not serve models.edgeai.io"),
    (405, status("MethodNotAllowed"), errors.KubernetesError, "refuses with status 405"),
    (409, status("AlreadyExists"), errors.Exists, "choose another name"),
    (409, status("Conflict"), errors.Stale, "get it again"),
    (409, b"", errors.Stale, "get it again"),
    (410, status("Expired"), errors.Expired, "list again"),
    (400, status("BadRequest", "no good"), errors.Invalid, "no good"),
    (413, status("RequestEntityTooLarge", "too long"), errors.Invalid, "too long"),
    (422, status("Invalid", causes=[{"field": "spec.a", "message": "Required value"}]), errors.Invalid,
     "spec.a: Required value"),
    (429, status("TooManyRequests"), errors.Busy, "too much to do"),
    (418, b"teapot", errors.KubernetesError, "refuses with status 418"),
    (302, b"", errors.KubernetesError, "refuses with status 302"),
])  # fmt: skip
def test_an_answer_is_an_error_that_names_what_was_asked(code: int, body: bytes, kind: type, says: str) -> None:
    error = error_of(ASKED, code, body)
    assert type(error) is kind and isinstance(error, HeliographError)
    assert says in str(error) and str(error).startswith("update models.edgeai.io digits in namespace berlin: ")


@pytest.mark.parametrize("code", [500, 502, 503, 504, 599])
def test_a_server_that_cannot_answer_is_unreachable(code: int) -> None:
    assert type(error_of(ASKED, code, b"")) is Unreachable


def test_no_right_is_asked_for_where_a_quota_forbids() -> None:
    assert "Role" not in str(error_of(ASKED, 403, status("Forbidden", "exceeded quota: q")))


def test_what_somebody_may_mend_later_is_unreachable_for_the_time_being() -> None:
    assert issubclass(errors.Forbidden, CoreForbidden) and issubclass(errors.Unauthorized, Unreachable)
    for lasting in (errors.NotFound, errors.Exists, errors.Stale, errors.Expired, errors.Invalid):
        assert not issubclass(lasting, Unreachable)


@pytest.mark.parametrize(("header", "seconds"), [
    ("7", 7), ("0", 0), ("-3", 0), ("1e9", 60), ("", 1), ("Wed, 21 Oct 2026 07:28:00 GMT", 1), ("nan", 0.0),
])  # fmt: skip
def test_a_busy_server_names_a_time_within_bounds(header: str, seconds: float) -> None:
    busy = error_of(ASKED, 429, b"", header)
    assert isinstance(busy, errors.Busy) and busy.retry_after == seconds


def test_a_time_may_come_in_the_status_too() -> None:
    busy = error_of(ASKED, 503, status("ServiceUnavailable", retryAfterSeconds=3))
    assert isinstance(busy, errors.Busy) and busy.retry_after == 3


def test_causes_keep_their_fields_and_a_flood_of_them_is_short() -> None:
    causes = [{"field": f"spec.f{number}", "message": "x" * 10_000} for number in range(1000)]
    refused = error_of(ASKED, 422, status("Invalid", causes=causes))
    assert isinstance(refused, errors.Invalid) and refused.causes[3][0] == "spec.f3" and len(refused.causes) == 1000
    assert len(str(refused)) < 5000 and "and 992 more" in str(refused)


@pytest.mark.parametrize("body", [
    b"[]", b"1", b"{", b"\xff", b"[" * 10_000, status("Invalid", causes="none"),
    status("Invalid", causes=[1, None, {}]),
    json.dumps({"kind": "Status", "details": [1], "message": {"a": "\ud800"}}).encode(),
])  # fmt: skip
def test_a_strange_body_is_an_error_like_any_other(body: bytes) -> None:
    assert isinstance(error_of(ASKED, 422, body), errors.Invalid)
    str(error_of(ASKED, 422, body)).encode()
