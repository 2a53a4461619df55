"""`jobcast demo`: the demo of the checkout that this package was started from."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import jobcast
from jobcast.cli.render.output import complain

EXIT_FAILED = 1


def run() -> int:
    """Its exit code."""
    found = find_spec("demo")
    checkout = Path(jobcast.__file__).resolve().parent.parent
    # Somebody else's package may be called demo, too.
    if found is None or found.origin is None or not Path(found.origin).resolve().is_relative_to(checkout):
        complain("the demo needs a checkout of Jobcast, with its folder demo/; run `make demo` there")
        return EXIT_FAILED
    # By name: nothing in jobcast depends on a package that only a checkout has.
    return int(import_module("demo").main() or 0)
