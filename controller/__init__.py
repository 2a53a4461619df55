"""The controller: drives reconcile from a watch.

    reflector ──▶ store ──▶ workqueue ──▶ jobcast.reconcile.reconciler ──▶ jobcast.ledger.ledger
       (a watch each of Jobs and Pods, in each namespace)

Thin on purpose: jobcast knows what a Job means and how it is published. Never imports the worker.
"""

import sys


def _import_structlog_without_rich() -> None:
    """structlog imports rich where it is installed, as in a checkout: 5 MB and 80 ms at the start.

    It only uses it to colour tracebacks, and to show variables in them, tokens and passwords among them.
    """
    if "rich" in sys.modules or "structlog" in sys.modules:
        return
    sys.modules["rich"] = None  # type: ignore[assignment]  # import rich: ImportError
    try:
        import structlog.dev  # noqa: F401
    finally:
        del sys.modules["rich"]


_import_structlog_without_rich()
