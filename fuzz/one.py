"""`python -m fuzz.one TARGET [options]`: atheris over one target, with real events, Jobs and Pods for seeds."""

import json
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["jobcast", "controller", "worker"]):
    from fuzz.targets import EVENTS, LISTS, PUBLISHED, TARGETS


def seeds(target: str) -> list[bytes]:
    """Real ones, so that it need not find out by itself what JSON is; the first bytes are the targets' own."""
    published = [json.dumps(one).encode() for one in PUBLISHED]
    return {
        "watch": [b"\x05\x01" + b"".join(json.dumps(event).encode() + b"\n" for event in EVENTS), b"\x20\x02\x09{}"],
        "page": [*(b"\x01" + json.dumps(one).encode() for one in LISTS), b"\x02\x09[{}]"],
        "log": [b"\x10\x05" + "line 1\nline é€😀\n".encode() * 20],
        "event": [*(b"\x01" + one for one in published), b"\x02\x09[{}]"],
        "record": [
            b"\x00".join([b"status", b"completed", b"uid", b"u", b"name", b"n", b"namespace", b"e", b"event", one])
            + b"\x00job:u\x005.0 completed e/n\x00log:p/c/0\x00{}\x00attempts\x00[]\x00waiting\x00{}\x00indexes\x00{}"
            for one in published
        ],
        "settings": [b"\x00redis://user:pw@host:6379/0?x=1", b"\x04*=a.b@q,completed|failed=c", b"\x03a in (b,c),!d"],
    }[target]


def main() -> None:
    target = sys.argv.pop(1)
    if not any(Path(argument).is_file() for argument in sys.argv[1:]):
        folder = tempfile.mkdtemp(prefix="jobcast-fuzz-")  # libFuzzer ends the process: the parent cleans up
        for number, seed in enumerate(seeds(target)):
            (Path(folder) / f"seed-{number}").write_bytes(seed)
        sys.argv.append(folder)
    atheris.Setup(sys.argv, TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
