"""`python -m devcluster`: a cluster for as long as this process lives."""

from __future__ import annotations

import argparse
import asyncio
import signal
import tempfile
from pathlib import Path

from devcluster.cluster import DevCluster, serve


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m devcluster", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--kubeconfig", type=Path, help="where to write one; default: in the temporary folder")
    parser.add_argument("--data", type=Path, help="folder for logs and working directories")
    parser.add_argument(
        "--backoff-seconds", type=float, default=0.5, help="what the real first back-off of 10 s becomes"
    )
    parser.add_argument("--bookmark-seconds", type=float, default=60.0, help="between the bookmarks of a watch")
    parser.add_argument("--notice-seconds", type=float, default=0.0, help="how late the kubelet notices")
    parser.add_argument("--end-seconds", type=float, default=0.0, help="from its containers' end to a Pod's own")
    parser.add_argument(
        "--log-rotate-bytes", type=int, help="a log that has grown beyond loses what it had; default: never"
    )
    parser.add_argument("--log-rotate-seconds", type=float, default=10.0, help="between the looks at how long it is")
    asked = parser.parse_args()
    asyncio.run(_run(asked))


async def _run(asked: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    cluster = DevCluster(
        host=asked.host,
        port=asked.port,
        data=asked.data,
        backoff_seconds=asked.backoff_seconds,
        bookmark_seconds=asked.bookmark_seconds,
        notice_seconds=asked.notice_seconds,
        end_seconds=asked.end_seconds,
        log_rotate_bytes=asked.log_rotate_bytes,
        log_rotate_seconds=asked.log_rotate_seconds,
    )
    if asked.kubeconfig:
        await serve(cluster, asked.kubeconfig, stop)
        return
    with tempfile.TemporaryDirectory(prefix="devcluster-") as folder:
        await serve(cluster, Path(folder) / "kubeconfig", stop)


if __name__ == "__main__":
    main()
