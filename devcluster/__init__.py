"""A Kubernetes API small enough to live in one process: Jobs run as local processes.

For the demo and the tests, never in the image. Its law: what it models, it copies from a real server, 1.34, and the
contract tests in tests/contract prove it on both. It listens on loopback, needs no root, and leaves nothing behind: no
process, no file.

Not modelled: images (a command is taken from PATH), volumes, networks, probes, more nodes than one, managedFields and
server-side apply's ownership, pruning of unknown fields, dryRun (refused), and any kind but Namespace, Pod, Job, Event.

    server     HTTP, paths, faults         store      objects, versions, history
    watch      streams of events           registry   writes: create, update, patch, delete
    lists      pages of a snapshot         admission  defaults and refusals
    logs       the log subresource         garbage    owners and dependents, namespaces
    jobs       the Job controller          kubelet    Pods as local processes
"""

from devcluster.cluster import DevCluster
from devcluster.faults import Fault, Faults

__all__ = ["DevCluster", "Fault", "Faults"]
