"""How long to wait after failures. Pure but for chance."""

import random


def pause(failures: int, bounds: tuple[float, float], *, has_jitter: bool = True) -> float:
    """Seconds to wait after `failures` failures in a row, at least one: the first bound, doubled with each further failure, up to
    the second; then shortened at random to no less than half, unless without jitter, so that what failed together is not retried
    together."""
    first, longest = bounds
    # 20 doublings exceed every bound; without the limit the float becomes infinite.
    doubled: float = first * 2 ** min(failures - 1, 20)
    return min(doubled, longest) * (random.uniform(0.5, 1) if has_jitter else 1)  # noqa: S311 - no secret
