"""ROUTES_FILE: what a route may say, and what is refused with one line and no password."""

from pathlib import Path

import pytest
from msgspec import structs
from pydantic import ValidationError
from workers import completed, running

from jobcast.event import JobRef, Status
from jobcast.service.settings import complaints
from worker.routes import Route
from worker.settings import WorkerSettings


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROUTES_FILE", str(tmp_path / "routes.yaml"))
    monkeypatch.setenv("METADATA_LABELS", "pipeline,team")
    return tmp_path / "routes.yaml"


def read(file: Path, text: str) -> tuple[Route, ...]:
    file.write_text(text)
    return WorkerSettings().every_route


def refused(file: Path, text: str) -> str:
    file.write_text(text)
    with pytest.raises(ValidationError) as error:
        WorkerSettings()
    (line,) = complaints(error.value)
    return line.replace(f"'{file}'", "it")


WHOLE = """
- statuses: [completed, failed]
  task: shop.tasks.invoice
  queue: billing
  broker: ${SHOP_BROKER_URL}
  labels: {team: [a, b]}
  namespace: evals
  pipeline: nightly
  priority: 5
  serializer: json
- task: audit.note
"""


def test_a_route_says_which_events_go_where_and_a_task_alone_is_enough(file, monkeypatch) -> None:
    monkeypatch.setenv("SHOP_BROKER_URL", "amqp://me:hunter2@rabbit/shop\n")  # as Secrets often end
    whole, short = read(file, WHOLE)
    assert (whole.task, whole.queue, whole.priority) == ("shop.tasks.invoice", "billing", 5)
    assert whole.elsewhere is not None
    assert whole.elsewhere.broker.url == "amqp://me:hunter2@rabbit/shop"
    assert (whole.name, whole.group) == (
        "route:shop.tasks.invoice@billing@SHOP_BROKER_URL",
        "worker:SHOP_BROKER_URL",
    )
    assert (short.name, short.group, short.filter.statuses) == ("route:audit.note@", "worker", set(Status))
    assert "hunter2" not in repr(WorkerSettings())


def test_all_its_conditions_must_hold(file, monkeypatch) -> None:
    monkeypatch.setenv("SHOP_BROKER_URL", "redis://there")
    whole, _ = read(file, WHOLE)
    event = structs.replace(
        completed("e"), metadata={"team": "b", "pipeline": "nightly"}, job=JobRef("evals", "e", "uid-e")
    )
    assert whole.filter.wants(event)
    assert not whole.filter.wants(structs.replace(running("e"), metadata=event.metadata, job=event.job))
    assert not whole.filter.wants(structs.replace(event, metadata={"team": "c", "pipeline": "nightly"}))
    assert not whole.filter.wants(structs.replace(event, metadata={"team": "a"}))
    assert not whole.filter.wants(structs.replace(event, job=JobRef("other", "e", "uid-e")))


def test_a_broker_is_named_by_its_variable_or_its_address_and_never_by_its_account(file) -> None:
    (route,) = read(file, "[{task: a.b, broker: 'rediss://me:hunter2@there:1/2?ssl_cert_reqs=required'}]")
    assert route.group == "worker:there:1/2"


def test_routes_of_both_settings_count(file, monkeypatch) -> None:
    monkeypatch.setenv("ROUTES", "completed=a.b@q")
    assert [route.name for route in read(file, "[{task: c.d}]")] == ["route:a.b@q", "route:c.d@"]
    assert "'a.b@q' is named twice" in refused(file, "[{task: a.b, queue: q}]")


def test_without_a_file_there_are_none(monkeypatch) -> None:
    monkeypatch.setenv("ROUTES_FILE", " ")
    assert WorkerSettings().every_route == ()


@pytest.mark.must_survive(36)
@pytest.mark.must_survive(37)
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "it must be a list of routes"),
        ("task: a.b", "it must be a list of routes"),
        ("- task: a.b\n  broker: 'amqp://me:hunter2@h\n- x", "it is not YAML: found unexpected end of stream (line"),
        ("- &a [*a]", "route 1: it must be keys and values"),
        ("- !!python/object/apply:os.system ['true']", "it is not YAML: could not determine a constructor"),
        ("\x00", "it is not YAML"),
        ("[" * 5000, "it is not YAML"),
        ("- a.b", "route 1: it must be keys and values; write for example"),
        ("- {task: a.b}\n- {task: a.b}", "'a.b@' is named twice; make one route of the two"),
        ("- {task: a.b}\n- {queue: q}", "route 2: it names no task"),
        ("- {task: a b}", "task: 'a b' is not the name of a task"),
        ("- {task: 1}", "task: '1' is not the name of a task"),
        ("- {task: a.b, queue: 'a,b'}", "queue: 'a,b' is not the name of a queue"),
        ("- {task: a.b, exchange: c}", "no key 'exchange'; there are statuses, task, queue, broker"),
        ("- {task: a.b, statuses: done}", "'done': no such status; there are running"),
        ("- {task: a.b, statuses: []}", "statuses: it must be a list of running"),
        ("- {task: a.b, statuses: [1]}", "statuses: it must be a list of running"),
        ("- {task: a.b, labels: {team: yes}}", "labels['team']=True: it must be text"),
        (
            "- {task: a.b, labels: {owner: a}}",
            "no event has the label 'owner', because METADATA_LABELS does not list it",
        ),
        ("- {task: a.b, namespace: A}", "namespace='A': it must be a namespace's name"),
        ("- {task: a.b, priority: high}", "priority: 'high': it must be a whole number from 0 to 255"),
        ("- {task: a.b, priority: true}", "priority: 'True': it must be a whole number"),
        ("- {task: a.b, serializer: pickle}", "serializer: 'pickle': json alone is sent; others can carry code"),
        ("- {task: a.b, serializer: yaml}", "json alone is sent"),
        ("- {task: a.b, broker: 5}", "broker: it must be a URL, or ${A_VARIABLE} with one"),
        ("- {task: a.b, broker: '${NO_SUCH}'}", "broker: the environment has no variable NO_SUCH"),
        ("- {task: a.b, broker: 'amqp://me:${PASSWORD}@h'}", "a variable must be all of it"),
        ("- {task: a.b, broker: 'ftp://me:hunter2@h'}", "broker: it must be a broker that Celery knows"),
        ("- {task: a.b, broker: 'memory://'}", "it must be a broker that Celery knows"),
        ("- {task: a.b, broker: 'mongodb://me:hunter2@h'}", "a library is missing that Celery needs for this broker"),
        ("- {task: a.b, broker: 'redis://me:hunter2@h:port'}", "broker: "),
        ("- {task: a.b, broker: 'redis://a:hunter2@h'}\n- {task: c.d, broker: 'redis://b@h'}", "two accounts of one"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_would_be_right(file, text, says) -> None:
    line = refused(file, text)
    assert line.startswith("ROUTES_FILE: it: ")
    assert says in line
    assert "hunter2" not in line
    assert "\n" not in line


def test_a_file_that_is_not_there_is_refused(file) -> None:
    with pytest.raises(ValidationError, match="it cannot be read: No such file or directory"):
        WorkerSettings()
