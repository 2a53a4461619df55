"""One event of every shape; the file of the same name beside this one is how it looks on the wire, byte for byte."""

from jobcast.event import (
    Artifact,
    Attempt,
    Cancelled,
    Completed,
    Event,
    Failed,
    JobRef,
    Log,
    Progress,
    Running,
    Status,
    Suspended,
    event_id,
)

UID = "6f9d3b52-63a5-4a83-9a41-0d1d3f6a7c10"
JOB = JobRef(namespace="evals", name="eval-42", uid=UID)
STARTED = "2026-11-20T10:00:00Z"
POD_UID = "0b8a8e0e-7c1e-4d59-8f0f-2a6f3f0d5b77"
SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
KEPT = Log(
    state="complete",
    bytes=48,
    source="eval-42-x/main",
    ref=f"redis:{{evaluation}}:log:{UID}:eval-42-x:main",
    sha256=SHA256,
)
DEADLINE = "DeadlineExceeded: Job was active longer than specified deadline"


def common(status: Status, at: float, time: str, key: str = "") -> dict[str, object]:
    return {
        "id": event_id(UID, status, key),
        "eval_id": "42",
        "timestamp": at,
        "time": time,
        "job": JOB,
        "metadata": {"job_name": "eval-42", "pipeline": "nightly"},
    }


SHAPES: dict[str, Event] = {
    "running": Running(
        **common(Status.RUNNING, 1795168801.0, "2026-11-20T10:00:01Z", STARTED),
        started_at="2026-11-20T10:00:01Z",
        timeout=600.0,
        executor_id="eval-42",
        container_id="eval-42",
    ),
    "running-unknown": Running(
        **common(Status.RUNNING, 1795168801.0, "2026-11-20T10:00:01Z", STARTED),
        started_at=None,
        timeout=None,
        executor_id="eval-42",
        container_id="eval-42",
    ),
    "suspended": Suspended(
        **common(Status.SUSPENDED, 1795168810.0, "2026-11-20T10:00:10Z", "2026-11-20T10:00:10Z"),
        reason="JobSuspended",
    ),
    "cancelled": Cancelled(
        **common(Status.CANCELLED, 1795168820.5, "2026-11-20T10:00:20.5Z"),
        reason="JobDeleted",
        cancelled_at="2026-11-20T10:00:20.5Z",
        job_name="eval-42",
        last_status="running",
    ),
    "cancelled-attempts": Cancelled(
        **common(Status.CANCELLED, 1795168820.5, "2026-11-20T10:00:20.5Z"),
        reason="JobBeingDeleted",
        cancelled_at="2026-11-20T10:00:20.5Z",
        job_name="eval-42",
        last_status="running",
        attempts=[Attempt(pod="eval-42-x", started_at="2026-11-20T10:00:01Z", container="main")],
    ),
    "completed": Completed(
        **common(Status.COMPLETED, 1795168861.0, "2026-11-20T10:01:01Z")
        | {"metadata": {"job_name": "eval-42", "completed_at": "2026-11-20T10:01:01Z", "log_source": "eval-42-x/main"}},
        exit_code=0,
        output='score 0.93\nGrüße, 世界 "quoted" \\ \t \u0000 \u001b[31mred\u001b[0m \ufffd\n',
        output_truncated=False,
        error=None,
        duration_seconds=60.0,
        reason="CompletionsReached",
        attempts=[
            Attempt(
                pod="eval-42-x",
                index=0,
                started_at="2026-11-20T10:00:01Z",
                finished_at="2026-11-20T10:01:00Z",
                exit_code=0,
                reason="Completed",
                container="main",
                logs=[KEPT],
            )
        ],
        log=KEPT,
        container="main",
        artifacts=[Artifact(name="scores", location="s3://results/42/scores.json")],
    ),
    "failed": Failed(
        **common(Status.FAILED, 1795168861.0, "2026-11-20T10:01:01Z"),
        exit_code=137,
        output="",
        output_truncated=True,
        error="BackoffLimitExceeded: Job has reached the specified backoff limit",
        duration_seconds=60.0,
        reason="BackoffLimitExceeded",
        attempts=[
            Attempt(
                pod="eval-42-a",
                finished_at="2026-11-20T10:00:30Z",
                exit_code=1,
                reason="Error",
                restarts=1,
                container="main",
                message="no such model",
                logs=[
                    Log(
                        state="complete",
                        bytes=7,
                        source="eval-42-a/main",
                        ref=f"s3://logs/jobcast/evals/eval-42/{UID}/eval-42-a/main.1.log",
                        sha256=SHA256,
                        instance=1,
                    ),
                    Log(state="unavailable", reason="container-gone", source="eval-42-a/main"),
                ],
            ),
            Attempt(pod="eval-42-b", exit_code=137, reason="OOMKilled", container="main"),
        ],
        log=Log(state="truncated", reason="store-limit", bytes=104857600, source="eval-42-b/main"),
        container="main",
    ),
    "failed-init": Failed(
        **common(Status.FAILED, 1795168861.0, "2026-11-20T10:01:01Z")
        | {"metadata": {"job_name": "eval-42", "log_source": "termination-message"}},
        warnings=["annotation timeout: 'soon' is no number of seconds"],
        exit_code=3,
        output="no such dataset",
        output_truncated=False,
        error="BackoffLimitExceeded: Job has reached the specified backoff limit",
        duration_seconds=60.0,
        reason="BackoffLimitExceeded",
        attempts=[
            Attempt(
                pod="eval-42-a",
                started_at="2026-11-20T10:00:01Z",
                finished_at="2026-11-20T10:00:02Z",
                exit_code=3,
                reason="Error",
                container="fetch",
                role="init",
                message="no such dataset",
                logs=[Log(state="unavailable", reason="pod-gone", source="eval-42-a/fetch")],
            )
        ],
        log=Log(state="unavailable", reason="pod-gone", source="eval-42-a/fetch"),
        container="fetch",
        role="init",
    ),
    "failed-unknown": Failed(
        **common(Status.FAILED, 1795168861.0, "2026-11-20T10:01:01Z"),
        exit_code=None,
        output="",
        output_truncated=False,
        error=DEADLINE,
        duration_seconds=None,
        reason="DeadlineExceeded",
        attempts=[],
        log=Log(state="unavailable", reason="never-started"),
    ),
}


def progress(kind: str, key: str, attempt: Attempt) -> Progress:
    return Progress(
        **common(Status.RUNNING, 1795168830.0, "2026-11-20T10:00:30Z")
        | {"id": event_id(UID, "progress", key), "status": "running"},
        kind=kind,
        attempt=attempt,
    )


PROGRESS: dict[str, Progress] = {
    "progress-attempt-ended": progress(
        "attempt-ended",
        f"{POD_UID}/main/0",
        Attempt(
            pod="eval-42-a",
            started_at="2026-11-20T10:00:01Z",
            finished_at="2026-11-20T10:00:30Z",
            exit_code=1,
            reason="Error",
            container="main",
            message="no such model",
            logs=[KEPT],
        ),
    ),
    "progress-index-finished": progress(
        "index-finished",
        "index/3",
        Attempt(
            pod="eval-42-3-x",
            index=3,
            started_at="2026-11-20T10:00:01Z",
            finished_at="2026-11-20T10:00:30Z",
            exit_code=0,
            reason="Completed",
            container="main",
        ),
    ),
    "progress-main-ended": progress(
        "main-ended",
        f"{POD_UID}/fetch/0",
        Attempt(
            pod="eval-42-a",
            finished_at="2026-11-20T10:00:30Z",
            exit_code=3,
            reason="Error",
            container="fetch",
            role="init",
            logs=[Log(state="unavailable", reason="refused", source="eval-42-a/fetch")],
        ),
    ),
}
