"""`python -m controller --check`: are the settings, the permissions, Redis and the log store such that it could work?"""

import sys

from controller.settings import ControllerSettings
from jobcast.keys import Keys
from jobcast.kube import Access, Api, KubeError, NoCluster, needed
from jobcast.logstore import LogStoreError, is_url, probe
from jobcast.redis.connection import ERRORS, connect, explain, masked
from jobcast.service.membership import CONTROLLER
from jobcast.service.settings import EXIT_FAILED, EXIT_WRONG_SETTINGS, watched_namespaces


async def check(settings: ControllerSettings) -> int:
    """Prints one line a finding; the exit code is the worst of them."""
    try:
        access = await Access.find()
        access.ssl()
    except NoCluster as error:
        _say("broken", f"KUBECONFIG: {error}")
        return EXIT_WRONG_SETTINGS
    # All of them, also when the first fails: an operator wants to mend everything at once.
    is_good = [await _check_cluster(settings, access), await _check_redis(settings), await _check_store(settings)]
    return 0 if all(is_good) else EXIT_FAILED


async def _check_cluster(settings: ControllerSettings, access: Access) -> bool:
    is_good = True
    async with Api(access) as api:
        try:
            _say("ok", f"cluster {access.host} answers: {await api.version()}")
            for namespace in watched_namespaces(settings, access.namespace) or (None,):
                where = f"in {namespace}" if namespace else "in all namespaces"
                missing = await api.missing(needed(CONTROLLER, finalizer=settings.finalizer), namespace)
                for one in missing:
                    role = "Role" if namespace else "ClusterRole"
                    _say("broken", f"may not {one} {where}: add it to the {role} of this account")
                if missing:
                    is_good = False
                else:
                    _say("ok", f"may list and watch jobs and pods and read logs {where}")
        except KubeError as error:
            _say("broken", f"cluster {access.host}: {error}")
            return False
    return is_good


async def _check_redis(settings: ControllerSettings) -> bool:
    client = connect(settings.redis_url, prefix=settings.key_prefix)
    try:
        # A write, because a replica and a full Redis answer PING gladly.
        await client.set(Keys(settings.key_prefix).claim("check"), "", px=1000)
    except ERRORS as error:
        _say("broken", f"REDIS_URL: {masked(settings.redis_url)}: {explain(error)}")
        return False
    finally:
        await client.aclose()
    _say("ok", f"redis {masked(settings.redis_url)} answers and takes writes")
    return True


async def _check_store(settings: ControllerSettings) -> bool:
    if not is_url(settings.log_store):
        return True
    try:
        await probe(settings.log_store)
    except LogStoreError as error:
        _say("broken", f"LOG_STORE: {error}")
        return False
    _say("ok", f"log store {settings.log_store} takes an object and gives it back")
    return True


def _say(verdict: str, line: str) -> None:
    print(f"{verdict:7} {line}", file=sys.stdout)  # noqa: T201 - the answer to the command
