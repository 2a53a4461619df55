"""Coverage-guided fuzzing of every decoder, by atheris: `make fuzz SECONDS=600`, outside the tests and the lock.

Turn what it finds into a test in tests/property first, then fix it.

    python -m fuzz 600              every target in turn, 600 seconds in total
    python -m fuzz.one watch ...    one target, with libFuzzer's options; a file among them is tried alone

    targets    what is fuzzed, and what must hold
    one        a target in its own process, with its seeds
"""
