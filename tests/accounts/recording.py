"""What one account really asks of Redis, command by command, those within scripts too; and what a rule less would cost it."""

import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import redis

_ARGUMENT = re.compile(rb'"((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(rb"\\(x[0-9a-f]{2}|.)")
_PLAIN = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b"}
END, MARK = b"the recording ends", b"all before this"
WITHOUT_ACL = {b"AUTH", b"HELLO", b"QUIT", b"RESET", b"CLIENT"}
"""No rule is needed for them; the last is CLIENT SETINFO, whose refusal redis-py ignores."""


class Asked(NamedTuple):
    """A command with its arguments."""

    words: tuple[bytes, ...]

    @property
    def name(self) -> str:
        """As an operator would name it, with what it was about."""
        shown = [word.decode(errors="replace") for word in self.words]
        is_script = shown[0] in ("EVAL", "EVALSHA")
        return " ".join([shown[0], *(shown[3:4] if is_script else shown[1:3])])[:80]


class Recording:
    """What an account asked while it ran, and what scripts asked: of those it is not known who runs them."""

    def __init__(self, account: str, admin: "redis.Redis", scripts: bool) -> None:
        self._scripts = scripts
        self.asked: list[Asked] = []
        self._account = account
        self._admin = admin
        self._users: dict[str, str] = {}
        self._marks = threading.Semaphore(0)

    def catch_up(self) -> None:
        """Returns once all was read that was asked until now. To be called before a connection is closed: afterwards nobody
        knows whose it was."""
        self._admin.echo(MARK)
        assert self._marks.acquire(timeout=60)

    def kinds(self) -> list[Asked]:
        """One of each kind: the same command with the same kinds of keys and channels."""
        return list({_kind(one): one for one in reversed(self.asked)}.values())

    def read(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            where = line.partition(b"[")[2].partition(b"]")[0].split(b" ")[-1].decode()
            words = tuple(_ESCAPE.sub(_unescaped, word) for word in _ARGUMENT.findall(line.partition(b"] ")[2]))
            if words[1:] == (MARK,):
                self._marks.release()
                continue
            if words[1:] == (END,):
                return
            if not words or words[0].upper() in WITHOUT_ACL:
                continue  # whose connection it is may be another's after it
            if self._scripts if where == "lua" else self._is_ours(where):
                self.asked.append(Asked((words[0].upper(), *words[1:])))

    def _is_ours(self, where: str) -> bool:
        if where not in self._users:
            # Of this one alone: others in the list may not have logged in yet.
            users = {one["addr"]: one["user"] for one in self._admin.client_list()}
            self._users[where] = users.get(where, self._account if self._scripts else "")
        return self._users[where] == self._account


@contextmanager
def recording(url: str, account: str, *, scripts: bool = True) -> Iterator[Recording]:
    """`url` is that of an account which may do everything. Without `scripts` others may run some meanwhile; with them whoever
    else asks anything has to `catch_up` before closing its connection, else that is taken for the account's."""
    with redis.Redis.from_url(url) as admin, redis.Redis.from_url(url, socket_timeout=None).monitor() as monitor:
        made = Recording(account, admin, scripts)
        lines = iter(lambda: monitor.connection.read_response(disable_decoding=True), None)
        reading = threading.Thread(target=made.read, args=(lines,), daemon=True)
        reading.start()
        try:
            yield made
        finally:
            admin.echo(END)
            reading.join(60)
            assert not reading.is_alive(), "it is far behind"


def _unescaped(found: re.Match[bytes]) -> bytes:
    code = found[1]
    return bytes([int(code[1:], 16)]) if code[:1] == b"x" and len(code) == 3 else _PLAIN.get(code, code)


def broken_without(server: "redis.Redis", rules: Sequence[str], asked: Sequence[Asked]) -> dict[str, str]:
    """Of each rule that gives something, what of this an account without it could not ask; empty where it could ask all."""
    given = [rule for rule in rules if rule[0] in "+~&%("]
    broken = {}
    for rule in given:
        server.acl_setuser("probe", reset=True)
        server.execute_command("ACL", "SETUSER", "probe", *(one for one in rules if one != rule))
        broken[rule] = "; ".join(refused(server, "probe", asked)[:3])
    server.acl_deluser("probe")
    return broken


def refused(server: "redis.Redis", account: str, asked: Sequence[Asked]) -> list[str]:
    """What of this the account may not ask, with Redis' own reason."""
    pipeline = server.pipeline(transaction=False)
    for one in asked:
        pipeline.execute_command("ACL", "DRYRUN", account, *one.words)
    replies = pipeline.execute()
    return [f"{one.name}: {reply.decode()}" for one, reply in zip(asked, replies, strict=True) if reply != b"OK"]


def _kind(one: Asked) -> tuple[bytes, ...]:
    """The command and what its words begin with: a key's kind, but not of which Job it is."""
    is_script = one.words[0] in (b"EVAL", b"EVALSHA")
    words = one.words[3 : 3 + int(one.words[2])] if is_script else one.words[1:]
    return (
        one.words[0],
        *(re.split(rb"[^a-z_{}:./-]", word[:64].lower().removeprefix(b"/0"))[0] for word in words[:6]),
    )
