"""What a fate is played on: a cluster, a controller of its own process, a Valkey; devcluster or a real node."""

import ssl
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from testbed.valkey import ValkeyServer
from tests.api import connection
from tests.parts import Parts

BACKOFF_SECONDS = 1.0
"""What the 10 s before a first retry become on devcluster: times are whole seconds, and no two attempts share one."""
NOTICE_SECONDS = 0.1
"""What becomes of the second that a kubelet takes to notice: a short container is never seen running."""
END_SECONDS = 0.2
"""What becomes of the second from a container's end to that of its Pod."""
ROTATE_BYTES = 1 << 20
"""What the 10 MiB of a real kubelet's log file become."""
ROTATE_SECONDS = 6.0
"""What its 10 s between looks become: still longer than 50 MB take, and than the controller waits for its own first look."""


@dataclass
class Stage:
    """One cluster and those who watch it. Shared by the tests of a session that do not stop any of it."""

    name: str
    connection: tuple[str, ssl.SSLContext | None, dict[str, str]]
    valkey: ValkeyServer
    parts: Parts
    seconds: float
    """The longest that anything but a back-off may take."""
    run: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    """On the label `run` of the Jobs that this stage's controllers look at: a real cluster has others' as well."""

    @property
    def is_real(self) -> bool:
        return self.name == "cluster"

    @property
    def a_while(self) -> int:
        """Seconds within which one sees what runs, and does something about it; a busy node says so late."""
        return 8 if self.is_real else 2


@contextmanager
def staged(name: str, folder: Path, kubeconfig: Path | None = None) -> Iterator[Stage]:
    """A stage without a controller: start one with `stage.parts`. `kubeconfig` is devcluster's."""
    valkey = ValkeyServer(folder).start()
    parts = Parts({"REDIS_URL": valkey.url, "NAMESPACES": "*"}, folder)
    try:
        stage = Stage(name, connection(kubeconfig), valkey, parts, 60 if kubeconfig else 90)
        parts.environment["LABEL_SELECTOR"] = f"app=evaluation,run={stage.run}"
        if kubeconfig is not None:
            parts.environment["KUBECONFIG"] = str(kubeconfig)
            parts.environment["LOG_WAIT_SECONDS"] = "3"  # logs that never come are waited for in several tests
        yield stage
    finally:
        parts.stop()
        valkey.stop()


@contextmanager
def devcluster(folder: Path) -> Iterator[Path]:
    """A devcluster as a process of its own; its kubeconfig."""
    kubeconfig = folder / "kubeconfig"
    command = [sys.executable, "-m", "devcluster", "--kubeconfig", str(kubeconfig), "--data", str(folder)]
    command += ["--backoff-seconds", str(BACKOFF_SECONDS), "--end-seconds", str(END_SECONDS)]
    command += ["--notice-seconds", str(NOTICE_SECONDS)]
    command += ["--log-rotate-bytes", str(ROTATE_BYTES)]
    command += ["--log-rotate-seconds", str(ROTATE_SECONDS)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while not kubeconfig.exists():
            assert process.poll() is None, "devcluster has ended"
            assert time.monotonic() < deadline, "devcluster did not start"
            time.sleep(0.05)
        yield kubeconfig
    finally:
        process.terminate()
        process.wait(60)
