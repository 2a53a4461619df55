"""What goes over the wire: an event, or progress, as flat JSON, and back. Pure."""

from typing import cast

import msgspec

from jobcast.event import Event, Progress

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(cast("type[Event]", Event))
_progress = msgspec.json.Decoder(Progress)
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises: for what is no JSON or not ours, for text that is not UTF-8, for what is nested too deeply."""


class MalformedEvent(ValueError):
    """Bytes that are not one of our events: not JSON, a field missing, or a status or kind from a later version."""


def encode(published: Event | Progress) -> bytes:
    """What is published, as flat JSON, UTF-8 (contract: golden files in tests/golden)."""
    return _encoder.encode(published)


def decode(data: bytes | str) -> Event:
    """The event in `data`; fields we do not know are ignored. Raises MalformedEvent."""
    try:
        return _decoder.decode(data)
    except UNREADABLE as error:
        raise MalformedEvent(f"not an event: {error}") from error


def decode_progress(data: bytes | str) -> Progress:
    """The progress in `data`; fields we do not know are ignored. Raises MalformedEvent."""
    try:
        return _progress.decode(data)
    except UNREADABLE as error:
        raise MalformedEvent(f"not progress: {error}") from error
