"""The accounts of k8s/components/redis, from the table of processes. Their passwords are public, for testing."""

import hashlib

from jobcast.service.processes import ACCOUNTS


def users() -> str:
    lines = [
        "user default off ~* &* +@all"
    ]  # with rules: Redis 7.0 reads its own append-only file with those of default
    lines += [f"user {name} on #{_hash(name)} {rights.rules}" for name, rights in ACCOUNTS.items()]
    lines.append("user probe on nopass resetchannels -@all +ping")
    return "\n".join(lines) + "\n"


def _hash(name: str) -> str:
    return hashlib.sha256(f"for-trying-out-{name}".encode()).hexdigest()
