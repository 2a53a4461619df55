"""What `jobcast doctor` looks at, and what to do about it. Looks only: nothing is changed in the cluster or in Redis.

    finding    ok, warning, broken, or unknown, and what to do           pure
    cluster    the API server: version, permissions, Jobs               needs jobcast[controller]
    pods       our own Pods, and why they do not start                   needs jobcast[controller]
    server     Redis: version, persistence, memory, clock
    account    what our account in Redis may do
    streams    how far behind the consumer groups are, dead letters
    installed  the controllers and workers that say that they are there

Each check is a function that returns findings; what the outside world raises is for `examined` to turn into one.
"""

from jobcast.doctor.finding import Finding, Verdict, examined

__all__ = ["Finding", "Verdict", "examined"]
