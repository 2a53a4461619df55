"""The Pod garbage collector: takes away the Pods of a node that was deleted."""

from __future__ import annotations

import asyncio

from devcluster.clock import stamp
from devcluster.errors import ApiError, Obj
from devcluster.registry import TERMINAL_PHASES, Registry, disrupt
from devcluster.scheme import NODES, PODS
from devcluster.store import Event, key_of

LOST_SECONDS = 0.3
"""From a node's deletion to that of its Pods. A real one waits 40 s, and looks every 20."""


class PodCollector:
    """Acts when a Node is deleted. It ignores Pods on a node that never existed: tests write their status."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._store = registry.store
        self._timers: set[asyncio.TimerHandle] = set()
        self._unsubscribe = self._store.subscribe(self._notice)

    def stop(self) -> None:
        self._unsubscribe()
        for timer in self._timers:
            timer.cancel()

    def _notice(self, event: Event) -> None:
        if event.resource is NODES and event.type == "DELETED":
            name = event.new["metadata"]["name"]
            self._timers.add(asyncio.get_running_loop().call_later(LOST_SECONDS, self._collect, name))

    def _collect(self, node: str) -> None:
        if self._store.get(NODES, "", node) is not None:
            return
        for _, pod in self._store.items(PODS):
            if pod["spec"].get("nodeName") == node:
                self._take_away(pod)

    def _take_away(self, pod: Obj) -> None:
        def fail(copy: Obj) -> None:
            copy["status"]["phase"] = "Failed"
            disrupt(copy, "DeletionByPodGC", "PodGC: node no longer exists", stamp())

        if pod["status"].get("phase") not in TERMINAL_PHASES:
            self._registry.change(PODS, pod, fail, "status")
        try:
            self._registry.delete(PODS, *key_of(pod), {"gracePeriodSeconds": 0})
        except ApiError as error:
            if error.code != 404:
                raise
