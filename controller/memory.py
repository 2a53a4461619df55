"""Keeps the process as small as what it remembers. Linux with glibc; elsewhere all of it does nothing."""

import ctypes
import gc
from asyncio import selector_events, sslproto

_MMAP_THRESHOLD = -3
"""M_MMAP_THRESHOLD of malloc.h."""
_MMAP_BYTES = 128 * 1024
"""glibc's own start value; set by hand it stays, so that a 3 MB page of a list goes back to the system when it was read,
instead of raising the threshold and leaving holes in the heap."""
_READ_BYTES = 64 * 1024
"""asyncio takes a buffer of 256 KiB for every read, which with that threshold is mapped and unmapped each time: six system
calls for a line of a watch. A smaller one comes from the heap."""


def settle() -> None:
    """After importing: nothing of it will ever be garbage, and 8 MB of it were only needed on the way."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _MMAP_BYTES)
    for transport in (selector_events._SelectorTransport, sslproto.SSLProtocol):  # type: ignore[attr-defined]
        transport.max_size = _READ_BYTES
    gc.collect()
    gc.freeze()
    # Events and steps come and go without cycles: looking for some after every 700 of them was 8 % of the CPU.
    gc.set_threshold(50_000, 20, 20)
    give_back()


def give_back() -> None:
    """Return freed memory to the system, as after the burst of a first list. Takes a few milliseconds."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
