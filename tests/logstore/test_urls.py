"""LOG_STORE: its values, those that are rejected at start, and that no secret is shown."""

import pytest

from jobcast.logstore import REFUSED, UNAVAILABLE, check_store
from jobcast.logstore.urls import explain, open_store, parse
from tests.logstore.conftest import SECRET

RIGHT = {
    "s3://bucket": ("s3://bucket", ""),
    "s3://bucket/": ("s3://bucket", ""),
    "s3://my.bucket-1/a/b=c": ("s3://my.bucket-1", "a/b=c"),
    "gs://bucket/logs": ("gs://bucket", "logs"),
    "az://container/logs": ("az://container", "logs"),
    "abfs://container@account.dfs.core.windows.net/logs": ("abfs://container@account.dfs.core.windows.net", "logs"),
    "abfss://container@account.dfs.core.windows.net": ("abfss://container@account.dfs.core.windows.net", ""),
    "file:///var/log/jobcast": ("file://", "var/log/jobcast"),
}
WRONG = [
    "",
    "disk",
    "REDIS",
    "redis://localhost",
    "s3:",
    "s3:/bucket",
    "s3://",
    "s3:///prefix",
    "s3://b",
    "s3://bucket//a",
    "s3://bucket/../a",
    "s3://bucket/a b",
    "s3://bucket/a%2e",
    "s3://[bucket",
    "S3://bucket",
    "https://bucket.s3.amazonaws.com",
    "memory:///",
    "file://host/folder",
    "file:folder",
    "file:///",
    "file:///tmp/../etc",
    "abfs://container@somewhere.else/logs",
    f"s3://AKIA:{SECRET}@bucket",
    f"s3://{SECRET}@bucket",
    f"s3://bucket?secret={SECRET}",
    f"s3://bucket/a#{SECRET}",
    f"az://container/logs?sig={SECRET}",
    f"abfs://container:{SECRET}@account.dfs.core.windows.net/logs",
]


@pytest.fixture(autouse=True)
def _account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "c2VjcmV0")


@pytest.mark.parametrize("url", RIGHT)
def test_every_kind_of_url_can_be_opened(url: str) -> None:
    parsed = parse(url)
    assert (parsed.root, parsed.path) == RIGHT[url]
    assert parsed.text == url.rstrip("/") == check_store(url)
    assert open_store(parsed) is not None


def test_values_that_are_not_urls_are_returned_unchanged() -> None:
    assert (check_store("redis"), check_store("none")) == ("redis", "none")


@pytest.mark.parametrize("url", WRONG)
def test_a_wrong_value_is_rejected_with_what_would_be_right(url: str) -> None:
    with pytest.raises(ValueError, match="s3://bucket/prefix") as caught:
        check_store(url)
    assert SECRET not in str(caught.value) and "\n" not in str(caught.value)


def test_azure_without_an_account_is_rejected_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME")
    with pytest.raises(ValueError, match="Account must be specified"):
        check_store("az://container/logs")


def test_a_missing_service_account_is_rejected_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", "/nowhere/key.json")
    with pytest.raises(ValueError, match=r"/nowhere/key\.json"):
        check_store("gs://bucket")


URL = parse("s3://bucket/logs")
PUT = "Error performing PUT https://s3/bucket/x?X-Amz-Signature=abcdef in 2ms"
SAID = f"Object at location x not found: {PUT} - Server returned non-2xx status code: "


@pytest.mark.parametrize(
    ("text", "reason", "line"),
    [
        (f"{SAID}403 Forbidden: <Error><Code>AccessDenied</Code><Message>No.</Message></Error>", REFUSED, "No."),
        (f"{SAID}401 Unauthorized: ", REFUSED, "the credentials are wrong"),
        (f"{SAID}404 Not Found: ", REFUSED, "no such bucket"),
        (f"{SAID}301 Moved Permanently: ", REFUSED, "AWS_REGION"),
        (f"{SAID}408 Request Timeout: ", UNAVAILABLE, "the store answered 408"),
        (f"{SAID}429 Too Many Requests: ", UNAVAILABLE, "the store answered 429"),
        (f"{SAID}503 Slow Down: <Code>SlowDown</Code>", UNAVAILABLE, "the store answered 503: SlowDown"),
        (f"{SAID}507 Insufficient Storage: <Code>XMinioStorageFull</Code>", REFUSED, "XMinioStorageFull"),
        ("Generic LocalFileSystem error: Unable to x: No space left on device (os error 28)", REFUSED, "No space left"),
        ("Generic LocalFileSystem error: Unable to x: Input/output error (os error 5)", UNAVAILABLE, "Input/output"),
        (f"Generic S3 error: {PUT} - HTTP error: error sending request\nTimedOut", UNAVAILABLE, "does not answer"),
        (
            "Generic S3 error: odd https://s3/bucket/x?X-Amz-Signature=abcdef answer",
            UNAVAILABLE,
            "odd https://s3/bucket/x answer",
        ),
        ("", UNAVAILABLE, "no reason given"),
    ],
)
def test_an_error_becomes_a_line_with_a_reason(text: str, reason: str, line: str) -> None:
    error = explain(OSError(text), URL)
    assert error.reason == reason
    assert str(error).startswith("s3://bucket/logs: ") and line in str(error)
    assert "Signature" not in str(error) and "\n" not in str(error)


def test_a_name_that_looks_like_an_error_is_not_taken_for_one() -> None:
    text = f"{SAID}503 Slow Down: ".replace("/bucket/x", "/bucket/certificate-dns-error-timedout")
    assert "the store answered 503" in str(explain(OSError(text), URL))


def test_a_secret_that_a_store_repeats_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    for text in (f"what is {SECRET}?", f"{SAID}403 Forbidden: <Message>not {SECRET}</Message>"):
        assert SECRET not in str(explain(OSError(text), URL))


def test_plain_http_is_used_only_where_the_environment_allows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def allowed() -> bool:
        options = open_store(parse("s3://bucket")).client_options  # type: ignore[union-attr]
        return str(options["allow_http"]).lower() == "true"  # type: ignore[index]

    assert not allowed()
    for name, value in (
        ("AWS_ENDPOINT_URL", "http://minio:9000"),
        ("AWS_ENDPOINT_URL_S3", "http://minio:9000"),
        ("AWS_ALLOW_HTTP", "true"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert allowed()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://minio:9000")
    assert not allowed()
