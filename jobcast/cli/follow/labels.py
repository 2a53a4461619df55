"""Open evaluations in the cluster, by any label of their Jobs."""

from typing import TYPE_CHECKING

from jobcast.cli.cluster import extra, in_cluster
from jobcast.cli.redis import Redis
from jobcast.cli.render.output import complain
from jobcast.cli.run import EXIT_FAILED
from jobcast.cli.selection import Selection

if TYPE_CHECKING:
    from jobcast.kube import Api


async def open_evaluations(redis: Redis, chosen: Selection) -> list[str]:
    """Their ids; prints why there are none. Only Jobs of LABEL_SELECTOR. Ends the command with code 2 if a setting is wrong."""
    with extra():
        from jobcast.kube import JOBS
        from jobcast.service.settings import CoreSettings, read, reading_of
    settings, found = read(CoreSettings, redis_url=redis.url), dict[str, None]()
    wanted = [f"{name} in ({','.join(values)})" for name, values in chosen.labels.items()]

    async def find(api: "Api") -> int:
        for namespace in chosen.namespaces or (api.access.namespace,):
            async for page in api.pages(JOBS, namespace, ",".join([settings.label_selector, *wanted])):
                found.update((job.eval_id, None) for job in page.items if job.end is None)
        if not found:
            complain("No open evaluations found.")
        return 0 if found else EXIT_FAILED

    await in_cluster(find, reading_of(settings))
    return list(found)
