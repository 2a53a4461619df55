"""What a registry and a runtime are told of the image; what is in it is for tests/e2e/test_image.py."""

import re

from tests.rendered import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()


def test_it_says_what_it_is_and_of_which_version() -> None:
    for name in ("title", "description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{name}=" in DOCKERFILE
    assert 'image.version="$VERSION"' in DOCKERFILE
    assert 'image.revision="$REVISION"' in DOCKERFILE


def test_it_is_asked_to_stop_as_the_parts_expect_it_and_runs_as_a_user_that_the_node_does_not_know() -> None:
    assert re.search(r"^STOPSIGNAL SIGTERM$", DOCKERFILE, re.MULTILINE)
    assert re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE) == ["10001:10001"]


def test_what_is_installed_is_what_was_locked() -> None:
    assert "--require-hashes" in DOCKERFILE
    assert "requirements-image.lock" in DOCKERFILE
    ours = (ROOT / ".dockerignore").read_text().split()
    assert [line for line in ours if line.startswith("!")] == [
        "!jobcast",
        "!controller",
        "!worker",
        "!pyproject.toml",
        "!requirements-image.lock",
    ]
