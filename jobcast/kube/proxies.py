"""The proxy to a server: HTTPS_PROXY, HTTP_PROXY and NO_PROXY, by the rules of Go and so of kubectl."""

import ipaddress
import os
from urllib.parse import urlsplit

from jobcast.kube.kubeconfig import NoCluster


def proxy_for(server: str) -> str | None:
    """Its URL; None for a direct connection, as to this machine always. Raises NoCluster, without the URL: it may contain
    credentials."""
    parts = urlsplit(server)
    name = f"{parts.scheme.upper()}_PROXY"
    proxy = os.environ.get(name) or os.environ.get(name.lower())
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    address = _address(host)
    is_here = host == "localhost" or (address is not None and address.is_loopback)
    if not proxy or is_here or _is_excepted(host, port, address):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    try:
        scheme, has_host = urlsplit(proxy).scheme, bool(urlsplit(proxy).hostname and (urlsplit(proxy).port or 1))
    except ValueError:
        scheme, has_host = "", False
    if scheme.startswith("socks"):
        raise NoCluster(f"{name}: SOCKS is not supported; use a proxy with http:// or https://")
    if scheme not in ("http", "https") or not has_host:
        raise NoCluster(f"{name}: it is not a URL; it must be http://host:port")
    return proxy


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _address(text: str) -> _Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_excepted(host: str, port: int, address: _Address | None) -> bool:
    """By NO_PROXY: addresses, networks, domains with all below them, `.domain` and `*.domain` for those below alone, each
    but a network with a port where wanted; `*` is everything."""
    listed = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
    return any(_matches(one.strip().lower(), host, port, address) for one in listed.split(","))


def _matches(pattern: str, host: str, port: int, address: _Address | None) -> bool:
    if pattern in ("", "*"):
        return pattern == "*"
    if "/" in pattern:
        try:
            return address is not None and address in ipaddress.ip_network(pattern, strict=False)
        except ValueError:
            return False
    name, separator, wanted = pattern.rpartition(":")
    if separator and (":" not in name or name.startswith("[")):
        if wanted != str(port):
            return False
        pattern = name.strip("[]")
    if (same := _address(pattern)) is not None:
        return same == address
    pattern = pattern.removeprefix("*") if pattern.startswith("*.") else pattern
    return host == pattern or (bool(pattern) and host.endswith(pattern if pattern.startswith(".") else f".{pattern}"))
