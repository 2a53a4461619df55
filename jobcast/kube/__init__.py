"""The only door to the API server: list, watch, get, log, review, create, patch of a finalizer, over raw bytes.

    access     where the cluster is and who we are (kubernetes-asyncio reads kubeconfig and service account)
    api        the requests
    decode     bytes to trimmed Jobs and Pods
    permissions  what each part needs
    errors     what the API server answers when it does not do what was asked

Nothing here retries: a watch is retried by its reflector, a Job by the workqueue, a log by its reader.
"""

from jobcast.kube.access import Access, NoCluster, own_namespace
from jobcast.kube.api import Api
from jobcast.kube.decode import JOBS, PODS, Change, Page, Resource
from jobcast.kube.errors import Expired, Forbidden, Invalid, KubeError, NotFound, Throttled, Unauthorized, Unreachable
from jobcast.kube.permissions import Permission, needed

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
    "needed",
    "own_namespace",
]
