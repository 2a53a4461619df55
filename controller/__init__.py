"""The controller: drives reconcile from a watch.

    reflector ──▶ store ──▶ workqueue ──▶ jobcast.reconcile.reconciler ──▶ jobcast.ledger.ledger
       (a watch each of Jobs and Pods, in each namespace)

Thin on purpose: what a Job means and how it is published is jobcast's. Never imports the worker.
"""

import sys


def _import_structlog_alone() -> None:
    """structlog takes rich along where it is installed, as in a checkout for the command line: 5 MB and 80 ms of start.

    All it does with it is colour tracebacks, and show the variables in them: tokens and passwords, too.
    """
    if "rich" in sys.modules or "structlog" in sys.modules:
        return
    sys.modules["rich"] = None  # type: ignore[assignment]  # import rich: ImportError
    try:
        import structlog.dev  # noqa: F401
    finally:
        del sys.modules["rich"]


_import_structlog_alone()
