"""The registry behind `from jobcast import on`."""

import subprocess
import sys

import pytest

from jobcast import on
from jobcast.event import Completed, Event, JobRef, Status, Suspended, event_id
from jobcast.handlers import Registry, registry


@pytest.fixture
def into() -> Registry:
    return Registry()


def suspended() -> Suspended:
    return Suspended(
        id=event_id("u", "suspended", "t"),
        eval_id="e",
        timestamp=0.0,
        time="1970-01-01T00:00:00Z",
        job=JobRef("ns", "j", "u"),
        metadata={},
        reason=None,
    )


def test_the_function_stays_what_it_was(into) -> None:
    @on("suspended", into=into)
    def note(event: Suspended) -> str:
        return event.eval_id

    assert note(suspended()) == "e"


def test_a_handler_wants_the_statuses_it_named_and_with_none_named_all(into) -> None:
    @on("completed", "failed", into=into)
    def score(event: Completed) -> None: ...

    @on(into=into)
    def note(event: Event) -> None: ...

    assert [handler.function for handler in into.wanting(suspended())] == [note]
    assert [handler.statuses for handler in into] == [{Status.COMPLETED, Status.FAILED}, set(Status)]


def test_its_name_is_the_module_and_the_function_and_its_options_are_kept(into) -> None:
    @on("completed", into=into, queue="scoring", max_retries=5)
    def score(event: Completed) -> None: ...

    (handler,) = into
    assert handler.name == f"{__name__}.{score.__qualname__}"
    assert handler.options == {"queue": "scoring", "max_retries": 5}


def test_a_status_that_does_not_exist_is_refused_with_those_that_do(into) -> None:
    with pytest.raises(ValueError, match=r"on\('done'\): no such status; there are running, suspended"):
        on("done", into=into)


def test_a_name_that_is_taken_is_refused(into) -> None:
    def score(event: Event) -> None: ...

    on("completed", into=into)(score)
    with pytest.raises(ValueError, match="score is registered twice; rename"):
        on("failed", into=into)(score)
    assert len(into) == 1


def test_parentheses_that_were_forgotten_are_asked_for() -> None:
    with pytest.raises(ValueError, match="needs parentheses"):

        @on  # type: ignore[arg-type]
        def score(event: Event) -> None: ...

    assert len(registry) == 0


def test_a_function_whose_body_a_call_would_not_run_is_refused(into) -> None:
    async def later(event: Event) -> None: ...

    def each(event: Event):  # type: ignore[no-untyped-def]
        yield event

    for function in (later, each):
        with pytest.raises(ValueError, match="must be a plain function"):
            on("completed", into=into)(function)
    with pytest.raises(ValueError, match="is for functions"):
        on("completed", into=into)(object())  # type: ignore[type-var]
    assert len(into) == 0


def test_a_handler_needs_neither_celery_nor_redis() -> None:
    code = "import sys; from jobcast import on; print([m for m in ('celery', 'redis', 'pydantic') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
