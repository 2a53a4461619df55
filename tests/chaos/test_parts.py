"""A part that ended by itself is counted, whoever starts or ends it next."""

from pathlib import Path

import pytest

from chaos import parts
from chaos.parts import Part


@pytest.fixture
def part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Part:
    """One that ends at once with code 3."""
    monkeypatch.setattr(parts, "ROOT", tmp_path)
    (tmp_path / "controller.py").write_text("raise SystemExit(3)")
    return Part("controller-0", {}, tmp_path)


def test_it_is_counted_when_it_is_started_again(part: Part):
    part.start()
    assert part.process is not None
    part.process.wait()
    part.start()
    assert part.process is not None
    part.process.wait()
    assert part.deaths == [3]


async def test_it_is_counted_when_a_fault_comes_before_anybody_looked(part: Part):
    part.start()
    assert part.process is not None
    part.process.wait()
    await part.kill()
    assert part.deaths == [3]


async def test_one_that_was_killed_did_not_end_by_itself(part: Part, tmp_path: Path):
    (tmp_path / "controller.py").write_text("import time; time.sleep(600)")
    part.start()
    await part.kill()
    part.start()
    await part.kill()
    assert part.deaths == []
