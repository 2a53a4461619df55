"""How long to leave alone what failed."""

import random


def pause(failures: int, bounds: tuple[float, float]) -> float:
    """Seconds after so many failures in a row, from 1: the first of `bounds`, doubled with each, at most the second; and of that
    half to all, by chance, so that what failed together does not come back together."""
    first, longest = bounds
    # 20 doublings are beyond every bound, and a float that is doubled for days is infinite.
    doubled: float = first * 2 ** min(failures - 1, 20)
    return min(doubled, longest) * random.uniform(0.5, 1)  # noqa: S311 - no secret
