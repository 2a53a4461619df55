"""docs/contributing/tour.md leads to files that exist."""

import re

from tests.docs.pages import ROOT

TOUR = (ROOT / "docs" / "contributing" / "tour.md").read_text()
NOT_YET = {"sinks/"}
"""The page says so of them."""


def named() -> set[str]:
    """Paths in code spans: with a folder or an ending of a file."""
    return {span for span in re.findall(r"`([\w./-]+)`", TOUR) if "/" in span or span.endswith((".md", ".py", ".lua"))}


def test_every_file_that_the_tour_names_exists() -> None:
    assert len(named()) > 25
    assert {path for path in named() if not (ROOT / path).exists()} == NOT_YET


def test_every_word_to_look_for_is_in_one_of_the_files_beside_it() -> None:
    for line in TOUR.splitlines():
        if not line.startswith("| ") or line.count("|") != 4:
            continue
        _, _, where, what, _ = line.split("|")
        files = [ROOT / path for path in re.findall(r"`([\w./-]+\.(?:py|lua))`", where)]
        text = "\n".join(path.read_text() for path in files)
        for word in re.findall(r"`([\w.]+)`", what):
            assert not files or word in text, f"{word} is not in {where}"
