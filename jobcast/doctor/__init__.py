"""The checks: what `jobcast doctor`, `controller --check` and the controller's readiness warnings look at, and what to do.

    finding    ok, warning, broken, or unknown, and what to do           pure
    cluster    the API server: version, permissions, Jobs               needs jobcast[controller]
    pods       our own Pods, and why they do not start                   needs jobcast[controller]
    server     Redis: version, persistence, memory, clock
    account    what our account in Redis may do
    streams    how far behind the consumer groups are, dead letters
    leftovers  keys in Redis that nothing will remove
    installed  the controllers and workers that are running
    storage    whether Redis and the log store take writes

Each check is a function that returns findings. It may raise what Redis and the API server raise: `examined` makes a finding of
that. No check changes anything, except those of `storage`, which `jobcast doctor` leaves out, and `leftovers` with `--repair`.
"""

from jobcast.doctor.finding import Finding, Verdict, examined

__all__ = ["Finding", "Verdict", "examined"]
