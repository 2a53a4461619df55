"""The only door to the API server: list, watch, get, log, review, create, patch of a finalizer, over raw bytes.

    kubeconfig   where the cluster is and who we are: kubeconfig or service account
    plugin       runs a kubeconfig's exec plugin
    proxies      the proxy to a server, by the environment
    credentials  what authenticates a request
    access       all of these, kept up to date
    api          the requests
    decode       bytes to objects; how a new kind is added
    permissions  what may be done with a kind of resource
    reviews      what an account may do
    errors       the API server's errors

Nothing here retries: the reflector retries a watch, the workqueue a Job, the reader a log.
"""

from jobcast.kube.access import Access
from jobcast.kube.api import Api
from jobcast.kube.decode import JOBS, PODS, Change, Page, Resource
from jobcast.kube.errors import Expired, Forbidden, Invalid, KubeError, NotFound, Throttled, Unauthorized, Unreachable
from jobcast.kube.kubeconfig import NoCluster, own_namespace
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
