"""The software bill of materials of the image, CycloneDX 1.6: what its lock pins, as far as Linux gets it.

python -m release.sbom > jobcast.cdx.json

The same lock gives the same bytes: no time is in it, and its serial number is a hash of what it lists. Not in it: what the base
image brings, Python itself and Debian's packages; nor which package needs which, because the lock does not say it.
"""

import json
import re
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from packaging.markers import Marker

from jobcast import __version__

LOCK = Path(__file__).resolve().parents[1] / "requirements-image.lock"
IMAGE = {"sys_platform": "linux", "platform_system": "Linux", "python_version": "3.11", "python_full_version": "3.11.9"}
"""The markers' answers in the image: its Python is some 3.11."""
NAMESPACE = uuid.UUID("2b6f0cc9-04d1-5b1c-a7f9-5d0e2f6a9c33")
PIN = re.compile(r"^(?P<name>[a-z0-9][a-z0-9.-]*)==(?P<version>[^\s;]+)\s*(?:;\s*(?P<marker>[^\\]+?))?\s*\\?$")


def pins(lock: str) -> Iterator[tuple[str, str]]:
    """Name and version of what is installed in the image. Raises ValueError at a line that is none of a lock's."""
    for line in lock.splitlines():
        if not line or line.startswith(("#", "    ")):
            continue
        found = PIN.match(line)
        if found is None:
            raise ValueError(f"not a pin: {line}")
        marker = found["marker"]
        if marker is None or Marker(marker).evaluate(IMAGE):
            yield found["name"], found["version"]


def bill(lock: str) -> dict[str, Any]:
    components = [_library(name, version) for name, version in sorted(pins(lock))]
    listed = json.dumps([__version__, components])
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(NAMESPACE, listed)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "container",
                "bom-ref": "jobcast",
                "name": "jobcast",
                "version": __version__,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            }
        },
        "components": components,
    }


def _library(name: str, version: str) -> dict[str, Any]:
    purl = f"pkg:pypi/{name}@{version}"
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(bill(LOCK.read_text()), indent=2) + "\n")
