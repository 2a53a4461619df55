"""Coverage-guided fuzzing of every decoder, by atheris: `make fuzz SECONDS=600`, outside the tests and the lock.

What it finds becomes a test in tests/property first, and is mended then.

    python -m fuzz 600              every target in turn, so many seconds altogether
    python -m fuzz.one watch ...    one target, with libFuzzer's options; a file among them is tried alone

    targets    what is fuzzed, and what must hold
    one        a target in a process of its own, with its seeds
"""
