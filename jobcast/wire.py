"""What goes over the wire: an event as flat JSON, and back. Pure."""

from typing import cast

import msgspec

from jobcast.event import Event

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(cast("type[Event]", Event))


class MalformedEvent(ValueError):
    """Bytes that are not one of our events: not JSON, a field missing, or a status from a later version."""


def encode(event: Event) -> bytes:
    """The event as flat JSON, UTF-8 (contract: golden files in tests/golden)."""
    return _encoder.encode(event)


def decode(data: bytes | str) -> Event:
    """The event in `data`; fields we do not know are ignored. Raises MalformedEvent."""
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedEvent(f"not an event: {error}") from error
