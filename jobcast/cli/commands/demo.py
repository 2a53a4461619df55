"""`jobcast demo`: the demo of the checkout that this package is part of."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import typer

import jobcast
from jobcast.cli.render.output import complain
from jobcast.cli.run import EXIT_FAILED


def demo() -> None:
    """Run a few evaluation Jobs on this machine and show their events. Needs a checkout of Jobcast."""
    raise typer.Exit(_run())


def _run() -> int:
    """The demo's exit code."""
    found = find_spec("demo")
    checkout = Path(jobcast.__file__).resolve().parent.parent
    # Another installed package may be called demo, too.
    if found is None or found.origin is None or not Path(found.origin).resolve().is_relative_to(checkout):
        complain("the demo needs a checkout of Jobcast, with its folder demo/; run `make demo` there")
        return EXIT_FAILED
    # By name: nothing in jobcast depends on a package that only a checkout has.
    return int(import_module("demo").main() or 0)
