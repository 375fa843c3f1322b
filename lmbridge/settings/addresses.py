"""Addresses of servers: any usual form in, one normal form out.

The normal form is ``scheme://host[:port][/prefix]``: scheme ``http`` or ``https``, host in lower case (IDNA
ASCII; IPv6 compressed and in brackets), no port where it is the scheme's own, no trailing slash and no API
path (``/v1``, ``/api/v1``, ``/v1/chat/completions`` …), to which providers append their own.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple, NoReturn
from urllib.parse import quote, unquote

from lmbridge.errors import ConfigurationError

__all__ = ["Address", "normalise_address", "same_origin", "split_address"]

_EXAMPLE = "write it like http://127.0.0.1:1234"
_MAX_LENGTH = 2048
_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_DEFAULT_PORTS = {"http": 80, "https": 443}
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_BARE_SCHEME = re.compile(r"(https?|wss?|file|ftp|unix|mailto|data):(?!\d)", re.IGNORECASE)
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_ZONE = re.compile(r"[A-Za-z0-9._~-]{1,32}")
_SEGMENT = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:-]|%[0-9A-Fa-f]{2})+")
_ENDPOINTS = "chat/completions|chat|completions|models|embeddings|responses"
_API_PATH = re.compile(rf"(?P<api>/api)?/(?P<version>v0|v1)(?:/(?:{_ENDPOINTS}))?$", re.IGNORECASE)
#: Letters that the standard library's IDNA (2003) maps to another name than browsers do (2008).
_IDNA_DEVIATIONS = frozenset("ßẞς\u200c\u200d")
#: Endings of names that no public server has (RFC 6761, RFC 8375, ICANN's ``.internal``, and home routers).
_LOCAL_SUFFIXES = (".local", ".localhost", ".localdomain", ".internal", ".lan", ".home", ".home.arpa")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Address(NamedTuple):
    """The parts of a normalised address; ``host`` without brackets, ``port`` always explicit."""

    scheme: str
    host: str
    port: int
    prefix: str

    @property
    def netloc(self) -> str:
        """``host:port``, with brackets around IPv6."""
        return f"{_bracketed(self.host)}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether the host is this machine."""
        if self.host == "localhost" or self.host.endswith(".localhost"):
            return True
        ip = _as_ip(self.host)
        return ip is not None and (_unmapped(ip)).is_loopback

    @property
    def is_local(self) -> bool:
        """Whether the host is this machine or one on its own network, as far as its name tells."""
        return self.is_loopback or _is_local_host(self.host)


def normalise_address(text: str) -> str:
    """Return the normal form of a server's address.

    Taken are ``host:port`` and ``host`` with or without a scheme, ``ws://`` (as ``http``) and ``wss://`` (as
    ``https``), IPv6 with or without brackets, upper case, international names, a trailing slash, and API
    paths at the end, which are cut off: ``/v1``, ``/api/v1``, ``/api/v0`` and endpoints such as
    ``/v1/chat/completions``. Other paths stay as a prefix: ``https://host/openai/v1`` is
    ``https://host/openai``. On a public name without a port, ``/api`` counts as prefix, too:
    ``https://openrouter.ai/api/v1`` is ``https://openrouter.ai/api``.

    Without a scheme it is ``https`` for port 443 and for a public name without a port, else ``http``. The
    addresses that servers listen on at all interfaces, ``0.0.0.0`` and ``::``, mean this machine.

    Raises:
        ConfigurationError: it is no such address, or holds a user name, query or fragment. The message says
            what is wrong and how to mend it, and never repeats the address, which may hold a secret.
    """
    scheme, rest = _split_scheme(_clean(text))
    authority, _, path = rest.partition("/")
    host, port = _split_authority(authority)
    host = _normalise_host(host)
    public = "." in host and _as_ip(host) is None and not _is_local_host(host)
    if scheme is None:
        scheme = "https" if port == 443 or (public and port is None) else "http"
    if port == _DEFAULT_PORTS[scheme]:
        port = None
    prefix = _prefix(path, keep_api=public and port is None)
    address = f"{scheme}://{_bracketed(host)}{'' if port is None else f':{port}'}{prefix}"
    if len(address) > _MAX_LENGTH:  # a letter of the path becomes up to twelve
        _refuse("the address is too long")
    return address


@lru_cache(maxsize=256)
def split_address(address: str) -> Address:
    """Return the parts of what :func:`normalise_address` returned."""
    scheme, _, rest = address.partition("://")
    authority, slash, path = rest.partition("/")
    host, port = _split_authority(authority)
    return Address(scheme, host, _DEFAULT_PORTS[scheme] if port is None else port, slash + path)


def same_origin(one: str, other: str) -> bool:
    """Whether two normalised addresses have the same scheme, host and port.

    ``localhost``, ``127.0.0.1`` and ``[::1]`` are the same host.
    """
    left, right = split_address(one), split_address(other)
    same_host = left.host == right.host or {left.host, right.host} <= _LOOPBACK
    return same_host and (left.scheme, left.port) == (right.scheme, right.port)


def _refuse(reason: str, hint: str = _EXAMPLE) -> NoReturn:
    raise ConfigurationError(reason, hint=hint)


def _clean(text: str) -> str:
    if not isinstance(text, str):
        _refuse("an address is a text")
    text = text.strip()
    if not text:
        _refuse("the address is empty")
    if len(text) > _MAX_LENGTH:
        _refuse("the address is too long")
    if any(char.isspace() or not char.isprintable() for char in text):
        _refuse("the address contains a space or an invisible character", "remove it")
    if "@" in text:
        _refuse(
            "the address contains a user name, a password or an @",
            "remove them and set API_KEY of the connection instead",
        )
    if "\\" in text:
        _refuse("the address contains a backslash", "use / instead")
    if "?" in text or "#" in text:
        _refuse("the address contains a query or a fragment", "cut it off before ? or #")
    return text


def _split_scheme(text: str) -> tuple[str | None, str]:
    match = _SCHEME.match(text)
    if match:
        scheme = match.group(1).lower()
        if scheme not in _SCHEMES:
            _refuse("only http:// and https:// (or ws:// and wss://) addresses can be used")
        return _SCHEMES[scheme], text[match.end() :]
    if _BARE_SCHEME.match(text):
        _refuse("the address has a scheme that is not followed by //, or one that cannot be used")
    return None, text.removeprefix("//")


def _split_authority(authority: str) -> tuple[str, int | None]:
    if authority.startswith("["):
        host, closed, port = authority[1:].partition("]")
        if not closed or (port and not port.startswith(":")) or ":" not in host:
            _refuse("the IPv6 address in brackets is not complete", "write it like http://[::1]:1234")
        return host, _port(port[1:]) if port else None
    if authority.count(":") > 1:
        if re.fullmatch(r"::1:\d{3,5}", authority):
            _refuse("an IPv6 address with a port needs brackets", "write it like http://[::1]:1234")
        return authority, None
    host, colon, port = authority.partition(":")
    return host, _port(port) if colon else None


def _port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        _refuse("the port is not a number from 1 to 65535")
    return int(text)


def _normalise_host(host: str) -> str:
    if not host:
        _refuse("the address names no host")
    if ":" in host:
        return _normalise_ipv6(host)
    host = _to_ascii(host).removesuffix(".").lower()
    labels = host.split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        _refuse("the host name is not valid")
    if re.fullmatch(r"\d+|0x[0-9a-f]*", labels[-1]):
        return _normalise_ipv4(host)
    return host


def _normalise_ipv6(host: str) -> str:
    plain, percent, zone = host.partition("%")
    zone = zone.removeprefix("25") if len(zone) > 2 else zone  # RFC 6874 writes the % itself as %25
    try:
        ip = IPv6Address(plain)
    except ValueError:
        _refuse("the IPv6 address is not valid", "write it like http://[::1]:1234")
    if percent and not _ZONE.fullmatch(zone):
        _refuse("the zone of the IPv6 address is not valid", "write it like http://[fe80::1%eth0]:1234")
    if ip == IPv6Address("::"):
        return "::1"
    # Python writes mapped addresses in dots from 3.13 on only.
    text = f"::ffff:{ip.ipv4_mapped}" if ip.ipv4_mapped else f"{ip}"
    return f"{text}{percent}{zone}"


def _normalise_ipv4(host: str) -> str:
    try:
        ip = IPv4Address(host)
    except ValueError:
        # Short and hexadecimal forms mean different hosts to different resolvers.
        _refuse("the host is a number that is no IPv4 address")
    return "127.0.0.1" if ip == IPv4Address("0.0.0.0") else str(ip)  # noqa: S104 - nothing is bound here


def _to_ascii(host: str) -> str:
    if host.isascii():
        return host
    # The codec is slow for long names; a longer one cannot be valid.
    if len(host) <= 253 and not _IDNA_DEVIATIONS.intersection(host):
        try:
            return host.encode("idna").decode("ascii")
        except UnicodeError:
            pass
    _refuse("the international host name cannot be converted", "write it in its ASCII form, xn--…")


def _prefix(path: str, *, keep_api: bool) -> str:
    segments = [quote(segment, safe="%!$&'()*+,;=:~") for segment in path.split("/") if segment]
    for segment in segments:
        if not _SEGMENT.fullmatch(segment) or unquote(segment) in {".", ".."}:
            _refuse("the path of the address is not valid", "write only letters, digits, -, _, . and /")
    prefix = "".join(f"/{segment}" for segment in segments)
    while match := _API_PATH.search(prefix):
        is_prefix = keep_api and match["api"] and match["version"].lower() == "v1"
        if match["version"].lower() == "v0" and not match["api"]:
            break
        prefix = prefix[: match.end("api") if is_prefix else match.start()]
    return prefix


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _as_ip(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _unmapped(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    return (ip.ipv4_mapped or ip) if isinstance(ip, IPv6Address) else ip


def _is_local_host(host: str) -> bool:
    ip = _as_ip(host)
    if ip is None:
        return "." not in host or host.endswith(_LOCAL_SUFFIXES)
    ip = _unmapped(ip)
    return ip.is_private or ip.is_link_local
