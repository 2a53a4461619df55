"""Writes the generated files in docs and k8s: pages from settings, metrics, commands and tests, schemas from the types.

python docs/generate.py            write them
python docs/generate.py --check    fail if one of them is out of date, or docs/guarantees.md names a test that does not exist
"""

import json
import sys
from pathlib import Path

from generators import accounts, alerts, asyncapi, commands, metrics, schemas, settings, survival

DOCS = Path(__file__).resolve().parent
SCHEMAS = Path("reference/schemas")


def files() -> dict[Path, str]:
    """The content of each generated file, by its path relative to docs."""
    pages = {
        Path("settings.md"): settings.page(),
        Path("must-survive.md"): survival.page(),
        Path("reference/metrics.md"): metrics.page(),
        Path("reference/commands.md"): commands.page(),
        Path("reference/asyncapi.yaml"): asyncapi.document(),
        Path("../k8s/components/prometheus/prometheusrule.yaml"): alerts.rule(),
        Path("../k8s/components/redis/users.acl"): accounts.users(),
    }
    for name, schema in schemas.files().items():
        pages[SCHEMAS / f"{name}.json"] = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
    return pages


def main() -> int:
    wanted = files()
    is_check = "--check" in sys.argv
    stale = [place for place, text in wanted.items() if not _is(DOCS / place, text)]
    left = [path.relative_to(DOCS) for path in (DOCS / SCHEMAS).glob("*") if path.relative_to(DOCS) not in wanted]
    if is_check and (stale or left):
        return _fails(f"out of date: {', '.join(map(str, [*stale, *left]))}; run make docs")
    for place in stale:
        (DOCS / place).parent.mkdir(parents=True, exist_ok=True)
        (DOCS / place).write_text(wanted[place])
    for place in left:
        (DOCS / place).unlink()
    if unknown := survival.unknown_proofs():
        return _fails(f"docs/guarantees.md names tests that do not exist: {'; '.join(unknown)}")
    return 0


def _is(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


def _fails(line: str) -> int:
    print(line, file=sys.stderr)  # noqa: T201
    return 1


if __name__ == "__main__":
    sys.exit(main())
