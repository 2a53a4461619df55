"""The only door to the API server: list, watch, get, log, review, create, patch of a finalizer, over raw bytes.

    access       where the cluster is and our credentials (kubernetes-asyncio reads kubeconfig and service account)
    api          the requests
    decode       bytes to objects; how a new kind is added
    permissions  what may be done with a kind of resource
    reviews      what an account may do
    errors       the API server's errors

Nothing here retries: the reflector retries a watch, the workqueue a Job, the reader a log.
"""

from jobcast.kube.access import Access, NoCluster, own_namespace
from jobcast.kube.api import Api
from jobcast.kube.decode import JOBS, PODS, Change, Page, Resource
from jobcast.kube.errors import Expired, Forbidden, Invalid, KubeError, NotFound, Throttled, Unauthorized, Unreachable
from jobcast.kube.permissions import Permission
from jobcast.kube.reviews import missing, whoami

__all__ = [
    "JOBS",
    "PODS",
    "Access",
    "Api",
    "Change",
    "Expired",
    "Forbidden",
    "Invalid",
    "KubeError",
    "NoCluster",
    "NotFound",
    "Page",
    "Permission",
    "Resource",
    "Throttled",
    "Unauthorized",
    "Unreachable",
    "missing",
    "own_namespace",
    "whoami",
]
