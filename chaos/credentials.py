"""The faults of credentials and kubeconfigs, which change while a process runs or lead elsewhere."""

import asyncio
from pathlib import Path

from chaos.apiproxy import Door, Gate
from chaos.fault import Fault
from chaos.reader import until
from chaos.world import ELSEWHERE

ASKED_SECONDS = 25.0
"""For a request at all: two sweeps. Of two workers one may sweep each time."""
USED_SECONDS = 60.0
"""For new credentials to be used: the longest that another fault keeps a process from asking, and a sweep on a busy machine."""


class _Identity(Fault):
    """What those have in common that start a process with a kubeconfig of another kind."""

    @property
    def door(self) -> Door:
        return self.world.api.doors[self.plan.targets[0]]

    def path(self, suffix: str) -> Path:
        return self.world.folder / f"{self.part.name}-{suffix}"

    async def restart(self, kubeconfig: str) -> None:
        await self.part.kill()
        self.part.start(KUBECONFIG=kubeconfig)

    async def end(self) -> None:
        self.door.gate.token = self.door.gate.serial = None
        await self.part.kill()
        self.part.start()

    async def passes(self, since: int) -> bool:
        return await _passes(self.door.gate, since)


class TokenRenewed(Fault):
    """The kubeconfig on disk has a new token, and the API server refuses the old one."""

    kinds = ("token-renewed",)

    async def begin(self) -> None:
        for name in self.plan.targets:
            door, token = self.world.api.doors[name], f"chaos-{self.plan.number}"
            path = self.world.folder / f"{name}.kubeconfig"
            self.world.api.write_kubeconfig(name, self.world.bare.namespace, path, token=token)
            door.gate.token, door.gate.passed, door.gate.refused = token, 0, 0
            door.cut()

    async def end(self) -> None:
        doors = [self.world.api.doors[name] for name in self.plan.targets]
        used = await asyncio.gather(*(_passes(door.gate, 0) for door in doors))
        for door, is_used in zip(doors, used, strict=True):
            door.gate.token = None
            if not is_used:
                self.world.notes.append(f"token-renewed: {door.name} did not use its new token")


class CertificateRenewed(_Identity):
    """As with a token, for a client's certificate: that is part of the connection, not of the request."""

    kinds = ("certificate-renewed",)

    async def begin(self) -> None:
        files = self.path("client")
        self._authority = self.world.authority
        self._authority.issue(files.name)
        kubeconfig = self.path("certificate.kubeconfig")
        self.world.api.write_kubeconfig(self.part.name, self.world.bare.namespace, kubeconfig, files=str(files))
        before = self.door.gate.passed
        await self.restart(str(kubeconfig))
        if not await self.passes(before):
            self.world.notes.append(f"certificate-renewed: {self.part.name} did not use its certificate")
        self.door.gate.serial = self._authority.issue(files.name)
        self._since, self.door.gate.refused = self.door.gate.passed, 0
        self.door.cut()

    async def end(self) -> None:
        if not await self.passes(self._since):
            self.world.notes.append(f"certificate-renewed: {self.part.name} did not use its new certificate")
        await super().end()


class KubeconfigList(_Identity):
    """KUBECONFIG names two files, each with its current context: the first one counts."""

    kinds = ("kubeconfig-list",)

    async def begin(self) -> None:
        other = self.path("elsewhere.kubeconfig")
        self.world.api.write_kubeconfig(ELSEWHERE, self.world.bare.namespace, other)
        self._elsewhere = self.world.api.doors[ELSEWHERE]
        self._before, self._since = self._elsewhere.requests, self.door.gate.passed
        await self.restart(f"{self.world.folder / self.part.name}.kubeconfig:{other}")

    async def end(self) -> None:
        await until(self._has_asked, USED_SECONDS)
        if self._elsewhere.requests > self._before:
            self.world.notes.append(f"kubeconfig-list: {self.part.name} used the second current context")
        elif self.door.gate.passed == self._since:
            self.world.notes.append(f"kubeconfig-list: {self.part.name} asked no cluster")
        await super().end()

    def _has_asked(self) -> bool:
        return self._elsewhere.requests > self._before or self.door.gate.passed > self._since


async def _passes(gate: Gate, since: int) -> bool:
    """Whether a request with the right credentials comes; and no other one does, where none comes at all."""

    def has_passed() -> bool:
        return gate.passed > since

    if await until(has_passed, ASKED_SECONDS) or not gate.refused:
        return True
    return await until(has_passed, USED_SECONDS - ASKED_SECONDS)


CREDENTIAL_FAULTS: tuple[type[Fault], ...] = (TokenRenewed, CertificateRenewed, KubeconfigList)
