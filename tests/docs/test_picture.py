"""docs/demo.svg, the picture in README.md, is of the demo as it is now, and a browser can show it alone."""

import html
import re

from demo.jobs import EVALUATIONS
from tests.docs.pages import ROOT

PICTURE = (ROOT / "docs" / "demo.svg").read_text()
SHOWN = html.unescape(re.sub(r"<[^>]+>", "", PICTURE)).replace("\xa0", " ")


def test_it_shows_every_evaluation_with_its_end() -> None:
    for evaluation in EVALUATIONS:
        (row,) = [line for line in SHOWN.splitlines() if line.strip().startswith(f"│ {evaluation.name} ")]
        assert evaluation.fate in row
    assert f"{len(EVALUATIONS)} of {len(EVALUATIONS)} evaluations ended as expected" in SHOWN


def test_it_loads_nothing_and_names_no_folder_of_a_machine() -> None:
    assert set(re.findall(r"https?://[^\"'\s<]+", PICTURE)) <= {
        "http://www.w3.org/2000/svg",
        "https://www.textualize.io",
    }
    assert not re.search(r"/(home|root|tmp|work|Users)/", PICTURE)
