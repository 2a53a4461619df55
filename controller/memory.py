"""Keeps the process about as small as what it stores. Works on Linux with glibc, and does nothing elsewhere."""

import ctypes
import gc
from asyncio import selector_events, sslproto

_MMAP_THRESHOLD = -3
"""M_MMAP_THRESHOLD of malloc.h."""
_MMAP_BYTES = 128 * 1024
"""glibc's own start value. Set explicitly it stays, so that a 3 MB page of a list goes back to the system once it is read.
Otherwise it would raise the threshold and leave holes in the heap."""
_READ_BYTES = 64 * 1024
"""asyncio allocates 256 KiB for every read. Above that threshold it is mapped and unmapped each time: six system calls for a
line of a watch. A smaller buffer comes from the heap."""


def settle() -> None:
    """Call after the imports: nothing imported becomes garbage, and 8 MB were only needed while importing."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _MMAP_BYTES)
    for transport in (selector_events._SelectorTransport, sslproto.SSLProtocol):  # type: ignore[attr-defined]
        transport.max_size = _READ_BYTES
    gc.collect()
    gc.freeze()
    # Events and steps form no cycles: a search for cycles after every 700 objects took 8 % of the CPU.
    gc.set_threshold(50_000, 20, 20)
    give_back()


def give_back() -> None:
    """Return freed memory to the system, as after a first list. Takes a few milliseconds."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
