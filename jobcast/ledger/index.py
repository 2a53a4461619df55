"""The index of evaluations, newest change first: removes those whose record has expired.

The ledger's step writes the index, and lets it expire as a whole with the last record when no Job is open. `prune` puts back
what is missing in it.
"""

from importlib.resources import files

from jobcast.ledger.ledger import Ledger

SCRIPT = files("jobcast.ledger").joinpath("index.lua").read_text()
PAGE = 1000
"""Evaluations of one call: about a millisecond for which Redis does nothing else."""


async def trim_index(ledger: Ledger, newest: float | None = None) -> int:
    """Returns how many evaluations it removed. `newest`: Unix seconds; those that changed later are not looked at.

    Waits while Redis is unreachable. Raises LedgerError.
    """
    score = "+inf" if newest is None else str(int(newest * 1000))
    offset = removed = 0
    while True:
        arguments = (ledger.keys.evaluation(""), score, offset, PAGE)
        looked, gone = map(int, await ledger.run("EVAL", SCRIPT, 1, ledger.keys.index, *arguments))
        removed += gone
        offset += looked - gone
        if looked < PAGE:
            return removed
