"""Debian's Prometheus as a child process, on loopback, with its data in a folder of the test."""

import json
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from testbed.ports import free_port

START_SECONDS = 60.0
SCRAPE_SECONDS = 1
"""Alerts and dashboard are made for 30; a rate needs two scrapes, and a test cannot wait for a minute."""


class Prometheus:
    """Asks it over its HTTP API."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._url}/-/ready", timeout=2) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False

    def ask(self, query: str) -> list[dict[str, Any]]:
        """What an instant query finds now. Fails with Prometheus' own words."""
        found: list[dict[str, Any]] = self._get(f"query?{urllib.parse.urlencode({'query': query})}")["result"]
        return found

    def targets(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._get("targets?state=active")["activeTargets"]
        return found

    def rules(self) -> list[dict[str, Any]]:
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def _get(self, path: str) -> Any:
        try:
            with urllib.request.urlopen(f"{self._url}/api/v1/{path}", timeout=10) as reply:
                return json.load(reply)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{path}: {error.read().decode()}") from error


@contextmanager
def prometheus(folder: Path, targets: dict[str, list[int]], rules: Path) -> Iterator[Prometheus]:
    """Scrapes these ports of loopback, by the name of their job."""
    config = {
        "global": {"scrape_interval": f"{SCRAPE_SECONDS}s", "evaluation_interval": f"{SCRAPE_SECONDS}s"},
        "rule_files": [str(rules)],
        "scrape_configs": [
            {
                "job_name": job,
                "honor_labels": True,
                "static_configs": [
                    # As the operator has it: what is scraped has the namespace and the name of its Pod.
                    {"targets": [f"127.0.0.1:{port}" for port in ports], "labels": {"namespace": "jobcast", "pod": job}}
                ],
            }
            for job, ports in targets.items()
        ],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    port = free_port()
    command = ["prometheus", f"--config.file={folder / 'prometheus.yaml'}", f"--storage.tsdb.path={folder / 'data'}"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        server = Prometheus(port)
        deadline = time.monotonic() + START_SECONDS
        while not server.is_ready():
            said = (folder / "prometheus.log").read_text()
            assert process.poll() is None, f"prometheus has ended:\n{said}"
            assert time.monotonic() < deadline, f"prometheus is not ready:\n{said}"
            time.sleep(0.05)
        yield server
    finally:
        process.terminate()
        process.wait(30)
