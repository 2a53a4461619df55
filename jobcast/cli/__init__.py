"""The `jobcast` command: what the client can do, for people and for scripts.

Most commands use `jobcast.client` only. `doctor` and shell completion open their own connection to Redis; `submit`,
`finalizers`, `doctor` and `logs --follow` also talk to the cluster.

Exit codes: 0 done, 1 failed at run time or nothing found, 2 wrong settings or usage, 124 after `--timeout`, 130
interrupted.
"""

import sys

EXIT_WRONG_SETTINGS = 2


def main() -> None:
    """The entry point. Says in one line what is missing if the extra `cli` is not installed."""
    try:
        from jobcast.cli.app import run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "jobcast":
            raise
        print(f"jobcast: {error.name} is missing; the command needs: pip install 'jobcast[cli]'", file=sys.stderr)  # noqa: T201 - nothing better is installed
        raise SystemExit(EXIT_WRONG_SETTINGS) from None
    run()
