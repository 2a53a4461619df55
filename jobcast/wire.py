"""Events and progress as flat JSON. Pure."""

from typing import cast

import msgspec

from jobcast.event import Event, Progress

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(cast("type[Event]", Event))
_progress = msgspec.json.Decoder(Progress)
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises: for other data than our JSON, for text that is not UTF-8, for JSON that is nested too deeply."""


class MalformedEvent(ValueError):
    """Bytes that are not one of our events: no JSON, a missing field, or a status or kind of a later version."""


def encode(message: Event | Progress) -> bytes:
    """Flat JSON, UTF-8. The golden files in tests/golden hold it byte for byte."""
    return _encoder.encode(message)


def decode(data: bytes | str) -> Event:
    """Ignores unknown fields. Raises MalformedEvent."""
    try:
        return _decoder.decode(data)
    except UNREADABLE as error:
        raise MalformedEvent(f"not an event: {error}") from error


def decode_progress(data: bytes | str) -> Progress:
    """Ignores unknown fields. Raises MalformedEvent."""
    try:
        return _progress.decode(data)
    except UNREADABLE as error:
        raise MalformedEvent(f"not progress: {error}") from error
