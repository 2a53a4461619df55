"""jobcast submit and jobcast logs --follow on a real node: the bytes are those that the container wrote."""

import asyncio
import hashlib
import os
import subprocess

from tests.api import Api, evaluation
from tests.cli.conftest import JOBCAST
from tests.parts import Parts, Told

LINES = 20_000
MUCH = f"i=0; while [ $i -lt {LINES} ]; do echo line $i of many; i=$((i+1)); done; printf 'no\\000end'"
WRITTEN = "".join(f"line {number} of many\n" for number in range(LINES)).encode() + b"no\0end"


async def run(parts: Parts, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
    environment = os.environ | {"REDIS_URL": parts.environment["REDIS_URL"]}
    return await asyncio.to_thread(
        subprocess.run, [JOBCAST, *arguments], capture_output=True, env=environment, timeout=120
    )


async def test_what_is_submitted_is_followed_to_the_last_byte(cluster: Api, parts: Parts, published: Told) -> None:
    await restricted(cluster)
    await parts.controller()
    submit = ("submit", "-n", cluster.namespace, "--image", "busybox", "--eval-id")
    fine, bad, hopeless = await asyncio.gather(
        run(parts, *submit, "fine", "--", "sh", "-c", MUCH),
        run(parts, *submit, "bad", "--retries", "1", "--", "sh", "-c", "echo no good; exit 3"),
        run(parts, *submit, "hopeless", "--deadline", "3", "--", "no-such-command"),
    )
    assert hashlib.sha256(fine.stdout).digest() == hashlib.sha256(WRITTEN).digest()
    assert (fine.returncode, fine.stderr.count(b"\n")) == (0, 2), fine.stderr
    assert (bad.stdout, bad.returncode) == (b"no good\n" * 2, 1)
    assert b"/evaluation follows\n" in bad.stderr
    assert b"  exit 3  " in bad.stderr
    assert (hopeless.stdout, hopeless.returncode) == (b"", 1)
    assert b"no-such-command" in hopeless.stderr


async def test_a_container_that_is_restarted_is_followed_on(cluster: Api, parts: Parts, published: Told) -> None:
    await parts.controller()
    script = "echo begin; n=0; while [ $n -lt 30 ]; do n=$((n+1)); echo $n; sleep 0.1; done; exit 1"
    job = evaluation("again", script, backoffLimit=1)
    job["spec"]["template"]["spec"]["restartPolicy"] = "OnFailure"
    await cluster.create(job)
    following = await run(parts, "logs", "-f", "again")
    said = "begin\n" + "".join(f"{n}\n" for n in range(1, 31))
    assert following.stdout.decode() == 2 * said
    assert b"/main, restart 1, follows\n" in following.stderr
    assert following.returncode == 0
    assert (await published.end_of("again"))["status"] == "failed"


async def restricted(cluster: Api) -> None:
    level = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    await cluster.patch(f"/api/v1/namespaces/{cluster.namespace}", level)
