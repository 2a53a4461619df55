"""`python -m controller`: settings, signals, exit codes. 0 done, 1 failed at run time, 2 settings are wrong."""

import asyncio
import os
import signal
import sys

from controller import memory
from controller.manager import Controller
from controller.preflight import check
from controller.settings import ControllerSettings
from jobcast.kube import Access, NoCluster
from jobcast.service.http import PortTaken
from jobcast.service.logging import configure
from jobcast.service.settings import EXIT_FAILED, EXIT_WRONG_SETTINGS, read


def main() -> int:
    arguments = sys.argv[1:]
    if arguments not in ([], ["--check"]):
        return _wrong_settings(f"unknown arguments: {' '.join(arguments)}; usage: python -m controller [--check]")
    settings = read(ControllerSettings)
    configure(settings)
    return asyncio.run(check(settings) if arguments else _run(settings))


async def _run(settings: ControllerSettings) -> int:
    try:
        access = await Access.find()
    except NoCluster as error:
        return _wrong_settings(f"KUBECONFIG: {error}")
    memory.settle()
    controller = Controller(settings, access)
    loop = asyncio.get_running_loop()

    def stop() -> None:
        controller.stop()
        for number in (signal.SIGTERM, signal.SIGINT):
            # The second signal ends the process at once.
            loop.add_signal_handler(number, os._exit, EXIT_FAILED)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        await controller.run()
    except NoCluster as error:
        return _wrong_settings(f"KUBECONFIG: {error}")
    except PortTaken as error:
        print(f"HTTP_PORT: {error}", file=sys.stderr)  # noqa: T201 - for the person who started it
        return EXIT_FAILED
    return 0


def _wrong_settings(line: str) -> int:
    print(line, file=sys.stderr)  # noqa: T201 - for the person who started it, even where logs are JSON
    return EXIT_WRONG_SETTINGS


if __name__ == "__main__":
    sys.exit(main())
