"""What the errors of the API server become, and those of the proxies before it."""

import json
from typing import Any

import pytest

from jobcast.kube import Expired, Forbidden, Invalid, KubeError, NotFound, Throttled, Unauthorized
from jobcast.kube.errors import from_response

FORBIDDEN = {
    "kind": "Status",
    "code": 403,
    "reason": "Forbidden",
    "message": 'jobs.batch is forbidden: User "x" cannot list resource "jobs" in API group "batch" in the namespace "evals"',
}


def body(**status: Any) -> bytes:
    return json.dumps({"kind": "Status", "status": "Failure", **status}).encode()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (400, KubeError),
        (401, Unauthorized),
        (403, Forbidden),
        (404, NotFound),
        (422, Invalid),
        (409, KubeError),
        (410, Expired),
        (429, Throttled),
        (500, Throttled),
        (502, Throttled),
        (503, Throttled),
        (504, Throttled),
    ],
)
def test_the_code_decides_the_kind(code: int, kind: type[KubeError]) -> None:
    error = from_response(code, b"", None)
    assert type(error) is kind
    assert (error.code, error.retry_after) == (code, None)


@pytest.mark.must_survive(6)
def test_the_servers_own_words_are_kept() -> None:
    error = from_response(403, json.dumps(FORBIDDEN).encode(), None)
    assert (str(error), error.reason) == (FORBIDDEN["message"], "Forbidden")


@pytest.mark.parametrize(
    "text",
    [
        b"<html><h1>502 Bad Gateway</h1></html>",
        b"",
        b"\xff\xfe",
        b"[]",
        b'"x"',
        b'{"code": "no"}',
        b'{"message": "\xff"}',
    ],
)
def test_of_a_proxys_answer_only_the_code_counts(text: bytes) -> None:
    error = from_response(502, text, None)
    assert type(error) is Throttled
    assert str(error).startswith("HTTP 502")


def test_an_invalid_object_says_where() -> None:
    causes = [{"field": "metadata.uid", "message": "immutable"}, {"message": "no field"}]
    assert from_response(422, body(details={"name": "a", "causes": causes}), None).fields == {"metadata.uid", ""}


def test_a_page_of_html_is_not_repeated_whole() -> None:
    assert len(str(from_response(502, b"x" * 60_000, None))) < 300


def test_a_status_that_contradicts_its_http_code_does_not_decide() -> None:
    assert type(from_response(503, body(code=410, message="odd"), None)) is Throttled


@pytest.mark.must_survive(5)
@pytest.mark.parametrize(
    ("header", "details", "seconds"),
    [
        ("7", None, 7.0),
        (" 7 ", None, 7.0),
        ("7", {"retryAfterSeconds": 1}, 7.0),
        (None, {"retryAfterSeconds": 2}, 2.0),
        ("soon", {"retryAfterSeconds": 2}, 2.0),
        ("-1", None, None),
        ("1.5", None, None),
        ("", None, None),
        ("²", None, None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None, None),
        (None, {"retryAfterSeconds": None}, None),
        (None, {}, None),
        (None, {"retryAfterSeconds": -5}, None),
        ("9" * 400, None, 300.0),
        ("86400", None, 300.0),
        (None, {"retryAfterSeconds": 10**30}, 300.0),
    ],
)
def test_retry_after_is_heeded_where_it_makes_sense(header: str | None, details: Any, seconds: float | None) -> None:
    # A typing error in a proxy's settings must not stop us for a day.
    assert from_response(429, body(details=details), header).retry_after == seconds
