"""How long a stop may take."""

from types import SimpleNamespace

import pytest
from billiard import pool

from worker.shutdown import LAST_WORDS_SECONDS, shorten_last_words


def test_a_process_whose_parent_reads_no_more_ends_within_any_grace(monkeypatch) -> None:
    looks: list[float] = []
    monkeypatch.setattr(pool, "GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT", 300)
    monkeypatch.setattr(pool, "time", SimpleNamespace(sleep=looks.append))
    shorten_last_words()

    class Unheard:
        on_ready_counter = type("Counter", (), {"value": 0})()

    assert not pool.Worker._ensure_messages_consumed(Unheard(), completed=1)
    assert sum(looks) == pytest.approx(LAST_WORDS_SECONDS)
