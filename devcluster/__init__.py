"""A Kubernetes API small enough to live in one process: Jobs run as local processes.

For the demo and the tests, never in the image. Its law: what it models, it copies from a real server (the contract tests
in tests/contract run on both); what it does not model, it refuses. It listens on loopback, needs no root, and leaves
nothing behind: no process, no file.

    server     HTTP, paths, faults         store      objects, versions, history
    watch      streams of events           registry   writes: create, update, patch, delete
    lists      pages of a snapshot         admission  defaults and refusals
    logs       the log subresource         garbage    owners and dependents, namespaces
    jobs       the Job controller          kubelet    Pods as local processes
"""

from devcluster.cluster import DevCluster
from devcluster.faults import Fault, Faults

__all__ = ["DevCluster", "Fault", "Faults"]
