"""Any bytes of a container, in any chunks: they are stored exactly, and the excerpt stays within its bound."""

import asyncio
import hashlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobcast.logs.excerpt import Excerpt
from tests.logs.room import room
from tests.logs.test_storing import PATH, MemoryLogStore
from tests.property.odd import SNIPPETS, chunks

DATA = st.binary(max_size=2500) | st.lists(
    st.sampled_from(
        [*(snippet[:400] for snippet in SNIPPETS), b"\n", b"\r\n", b"\xf0\x9f", b"\x98\x80", b"\x00", b"a" * 300]
    ),
    max_size=12,
).map(b"".join)
SIZES = st.lists(st.integers(0, 400), max_size=12)
LEFT_OUT = len("\n[... 9999 bytes left out ...]\n")


@pytest.mark.must_survive(17)
@settings(max_examples=80, deadline=None)
@given(data=DATA, sizes=SIZES)
def test_any_bytes_are_stored_and_published_exactly(data: bytes, sizes: list[int]) -> None:
    store = MemoryLogStore()

    async def read() -> None:
        async with room(excerpt_bytes=256, store=store, pod=[chunks(data, sizes)]) as one:
            found = await one.read("pod")
        assert (found.log.state, found.log.bytes) == ("complete", len(data))
        assert found.log.sha256 == hashlib.sha256(data).hexdigest()
        assert store.stored == ({PATH: data} if data else {}), "an empty log is not stored, and replaces none"
        assert len(found.output) <= 256 + LEFT_OUT
        assert msgspec.json.decode(msgspec.json.encode(found.output)) == found.output

    asyncio.run(read())


@pytest.mark.must_survive(18)
@settings(max_examples=300)
@given(data=DATA, sizes=SIZES, limit=st.integers(2, 600))
def test_an_excerpt_of_any_bytes_is_text_within_its_bound(data: bytes, sizes: list[int], limit: int) -> None:
    excerpt = Excerpt(limit)
    for chunk in chunks(data, sizes):
        excerpt.feed(chunk)
    text = excerpt.text()
    assert len(text) <= limit + (LEFT_OUT if excerpt.is_cut else 0)
    assert text.encode().decode() == text
    assert excerpt.is_cut == (len(data) > limit)
    # A replacement character stands for one byte to three, and is three itself: never more of them than bytes.
    assert text.count("�") <= limit
