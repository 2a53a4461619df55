"""The registry behind `from jobcast import on`."""

import subprocess
import sys

import pytest
from msgspec import structs

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
    assert [handler.filter.statuses for handler in into] == [{Status.COMPLETED, Status.FAILED}, set(Status)]


def test_its_name_is_the_module_and_the_function_and_its_options_are_kept(into) -> None:
    @on("completed", into=into, queue="scoring", max_retries=5)
    def score(event: Completed) -> None: ...

    (handler,) = into
    assert handler.name == f"{__name__}.{score.__qualname__}"
    assert handler.options == {"queue": "scoring", "max_retries": 5}


def test_a_status_that_does_not_exist_is_refused_with_those_that_do(into) -> None:
    with pytest.raises(ValueError, match=r"handler \S+score: 'done': no such status; there are running, suspended"):

        @on("done", into=into)
        def score(event: Event) -> None: ...


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        ({}, True),
        ({"labels": {"team": "a"}}, True),
        ({"labels": {"team": ["b", "a"], "size": "big"}}, True),
        ({"labels": {"team": "b"}}, False),
        ({"labels": {"team": "a", "size": "small"}}, False),
        ({"labels": {"owner": "me"}}, False),
        ({"namespace": "ns"}, True),
        ({"namespace": ["other", "ns"]}, True),
        ({"namespace": "other"}, False),
        ({"pipeline": "p"}, True),
        ({"pipeline": ("q", "p"), "labels": {"team": "a"}, "namespace": "ns"}, True),
        ({"pipeline": "q", "labels": {"team": "a"}, "namespace": "ns"}, False),
    ],
)
def test_all_filters_must_hold_and_one_of_several_values_is_enough(into, filters, wanted) -> None:
    @on("suspended", into=into, **filters)
    def note(event: Event) -> None: ...

    event = structs.replace(suspended(), metadata={"job_name": "j", "team": "a", "size": "big", "pipeline": "p"})
    assert bool(into.wanting(event)) is wanted


@pytest.mark.must_survive(36)
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"labels": "team=a"}, "labels='team=a': it must be label and value"),
        ({"labels": {"team": ""}}, r"labels\['team'\]='': it must be text"),
        ({"labels": {"team": None}}, r"labels\['team'\]=None: it must be text"),
        ({"labels": {"team": {"a": 1}}}, "it must be text"),
        ({"namespace": "Evals"}, "namespace='Evals': it must be a namespace's name"),
        ({"namespace": []}, r"namespace=\[\]: it must be text"),
        ({"namespace": "*"}, "it must be a namespace's name"),
        ({"pipeline": 7}, "pipeline=7: it must be text"),
        ({"pipeline": "p", "labels": {"pipeline": "q"}}, "say it once"),
        ({"queue": ""}, "queue='': it must be the name of a queue"),
        ({"queue": "a,b"}, "name of a queue"),
        ({"priority": 10}, "priority=10: it must be a whole number from 0 to 9"),
        ({"priority": True}, "priority=True"),
        ({"rate_limit": "often"}, "rate_limit='often': it must be calls a second"),
        ({"rate_limit": "0/s"}, "rate_limit='0/s'"),
        ({"rate_limit": 0}, "rate_limit=0"),
        ({"time_limit": 0}, "time_limit=0: it must be seconds"),
        ({"soft_time_limit": "1"}, "soft_time_limit='1'"),
        ({"soft_time_limit": 3, "time_limit": 2}, "it must be less than time_limit, which is 2"),
        ({"max_retries": -1}, "max_retries=-1"),
        ({"max_retries": 1.5}, "max_retries=1.5"),
        ({"retry_backoff": "soon"}, "retry_backoff='soon'"),
        ({"retry_jitter": 1}, "retry_jitter=1: it must be True or False"),
        ({"acks_late": False}, "to have it called once only, say max_retries=0"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_and_the_handler_named(into, options, says) -> None:
    with pytest.raises(ValueError, match=rf"handler \S+score: .*{says}"):

        @on("completed", into=into, **options)
        def score(event: Event) -> None: ...

    assert len(into) == 0


def test_an_option_that_there_is_not_is_refused() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'expires'"):
        on("completed", expires=3)  # type: ignore[call-arg]


def test_what_is_always_so_may_be_said(into) -> None:
    @on("completed", into=into, acks_late=True, rate_limit=5, retry_backoff=0)
    def score(event: Event) -> None: ...

    (handler,) = into
    assert handler.options == {"acks_late": True, "rate_limit": 5, "retry_backoff": 0}


def test_a_name_that_is_taken_is_refused(into) -> None:
    def score(event: Event) -> None: ...

    on("completed", into=into)(score)
    with pytest.raises(ValueError, match="score is registered twice; rename"):
        on("failed", into=into)(score)
    assert len(into) == 1


def test_parentheses_that_were_forgotten_are_asked_for() -> None:
    before = len(registry)
    with pytest.raises(ValueError, match="needs parentheses"):

        @on  # type: ignore[arg-type]
        def score(event: Event) -> None: ...

    assert len(registry) == before


def test_a_function_whose_body_a_call_would_not_run_is_refused(into) -> None:
    async def later(event: Event) -> None: ...

    def each(event: Event):  # type: ignore[no-untyped-def]
        yield event

    async def each_later(event: Event):  # type: ignore[no-untyped-def]
        yield event

    for function in (later, each, each_later):
        with pytest.raises(ValueError, match="must be a plain function"):
            on("completed", into=into)(function)
    with pytest.raises(ValueError, match="is for functions"):
        on("completed", into=into)(object())  # type: ignore[type-var]
    assert len(into) == 0


def test_a_function_that_an_event_alone_cannot_be_given_to_is_refused(into) -> None:
    class Scores:
        def score(self, event: Event) -> None: ...

    def score_all(event: Event, *, strictly: bool) -> None: ...

    def score_none() -> None: ...

    for function in (Scores.score, score_all, score_none):
        with pytest.raises(ValueError, match="must take one argument, the event"):
            on("completed", into=into)(function)


def test_what_would_have_to_be_awaited_is_an_error_of_the_call(into) -> None:
    async def later(event: Event) -> None: ...

    @on("suspended", into=into)
    def score(event: Event) -> object:
        return later(event)

    (handler,) = into
    with pytest.raises(TypeError, match="score returned an awaitable"):
        handler.call(suspended())


def test_a_handler_needs_neither_celery_nor_redis() -> None:
    code = "import sys; from jobcast import on; print([m for m in ('celery', 'redis', 'pydantic') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
