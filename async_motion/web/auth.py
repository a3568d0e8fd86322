"""Authentication and roles: tokens, the cookie, reverse proxies and Home Assistant's ingress.

    no token, loopback    everything, for requests to a loopback name that came through no proxy
    Authorization: Bearer the role of its token: `web.token` is admin, `web.viewer_token` viewer
    cookie                the role of the token that was exchanged for it; signed, and renewed while used
    X-Remote-User-Id      `web.remote_user`, from `web.trusted_proxies` alone (Home Assistant's ingress)

- A cookie is ``role.issued.session.signature``. It is valid for `COOKIE_S`. One older than `RENEW_S` is
  replaced at its next use; once its successor was used, a cookie issued more than `GRACE_S` before that one
  is refused. The key derives from the tokens: a changed token ends every session. A log-out ends all cookies
  of the session.
- `HttpOnly`, `SameSite=Strict`, no `Path`: every page lies directly below the base, so the browser scopes the
  cookie to the base, also behind a prefix that a proxy or ingress adds. Only pages renew it: a cookie that
  the API sets would be scoped to the API, and end the one of the pages. An open page requests `healthz`.
- A request that changes something must come from the same origin (`Sec-Fetch-Site`, else `Origin`). A bearer
  token needs no such check: browsers never add one on their own.
- An address that has sent `MAX_WRONG` wrong tokens within `WRONG_S` is refused until the first of them is
  `WRONG_S` old. Of IPv6, the first 64 bits count: a host chooses the others.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import math
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

COOKIE_S: Final = 30 * 86400.0
RENEW_S: Final = 3600.0
GRACE_S: Final = 60.0
MAX_WRONG: Final = 10
WRONG_S: Final = 300.0
MAX_ADDRESSES: Final = 1024
MAX_SESSIONS: Final = 4096

_FORWARDING: Final = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via")
"""Headers that a reverse proxy adds."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Role(IntEnum):
    """What a visitor may do. Each role includes the lower ones."""

    NONE = 0
    VIEWER = 1
    ADMIN = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """The sender of a request. `how` is open, bearer, cookie, proxy or empty.

    `name` is the user's name from a trusted proxy. `framed`: the page is inside Home Assistant's frame.
    `cookie` is a renewed cookie to set in the response.
    """

    role: Role
    how: str = ""
    name: str = ""
    framed: bool = False
    secure: bool = False
    address: str = ""
    hosts: tuple[str, ...] = ()
    cookie: str | None = None


class TooManyWrong(Exception):
    """The address has sent too many wrong tokens. It may try again in `retry_after_s` seconds."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__("too many wrong tokens")
        self.retry_after_s = retry_after_s


class WrongTokens:
    """Wrong tokens by address, bounded: beyond `MAX_ADDRESSES` addresses, unknown ones are refused too."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()

    def check(self, address: str) -> None:
        """Raise TooManyWrong if the address must wait."""
        address, now = _subscriber(address), self._clock()
        while self._wrong and next(iter(self._wrong.values()))[-1] < now - WRONG_S:
            self._wrong.popitem(last=False)
        times = self._wrong.get(address)
        if times is None:
            if len(self._wrong) >= MAX_ADDRESSES:
                raise TooManyWrong(WRONG_S)
            return
        while times and times[0] < now - WRONG_S:
            times.popleft()
        if len(times) >= MAX_WRONG:
            raise TooManyWrong(times[0] + WRONG_S - now)

    def add(self, address: str) -> None:
        """Count a wrong token."""
        address = _subscriber(address)
        self._wrong.setdefault(address, deque(maxlen=MAX_WRONG)).append(self._clock())
        self._wrong.move_to_end(address)


class Guard:
    """Authenticates each request. `token` None: open without a token, on the loopback address alone."""

    def __init__(
        self,
        *,
        host: str,
        instance: str,
        token: str | None = None,
        viewer_token: str | None = None,
        trusted_proxies: Sequence[Network] = (),
        remote_user: Role = Role.NONE,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._on_loopback = is_loopback(host)
        self._tokens = [
            (text.encode(), role) for text, role in ((token, Role.ADMIN), (viewer_token, Role.VIEWER)) if text
        ]
        self._trusted = tuple(trusted_proxies)
        self._remote_user = remote_user
        self._now = now
        self._wrong = WrongTokens(clock)
        self._newest: OrderedDict[str, float] = OrderedDict()
        """Issue time of the newest cookie used in each session; infinite after its log-out."""
        # Cookies ignore the port: instances on one host would share one, so each has its own name.
        self.cookie_name = f"async_motion_{hashlib.sha256(instance.encode()).hexdigest()[:8]}"
        # A slow derivation: a stolen cookie must not make guessing the token feasible.
        salt = b"async_motion cookie 1"
        secret = b"\0".join(text for text, _ in self._tokens) or secrets.token_bytes(32)
        self._key = hashlib.scrypt(secret, salt=salt, n=2**14, r=8, p=1)

    @property
    def wants_token(self) -> bool:
        """Whether a token is set."""
        return bool(self._tokens)

    def visitor(self, request: web.Request) -> Visitor:
        """Return the sender of a request, with its role. Raises TooManyWrong."""
        headers = request.headers
        trusted = self._is_trusted(request.remote or "")
        stranger = self._stranger(request, trusted=trusted)
        if trusted and self._remote_user and headers.get("X-Remote-User-Id"):
            name = headers.get("X-Remote-User-Display-Name") or headers.get("X-Remote-User-Name") or ""
            return replace(stranger, role=self._remote_user, how="proxy", name=name)
        if not self._tokens:
            direct = not any(header in headers for header in _FORWARDING)
            own_name = is_loopback(_host_of(f"//{request.host}"))
            if self._on_loopback and direct and own_name:
                return replace(stranger, role=Role.ADMIN, how="open")
            return stranger
        scheme, _, given = headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return replace(stranger, role=self.role_of(given.strip(), stranger.address), how="bearer")
        role, cookie = self._from_cookie(request)
        return replace(stranger, role=role, how="cookie" if role else "", cookie=cookie)

    def _stranger(self, request: web.Request, *, trusted: bool) -> Visitor:
        """Return the sender of a request before it is known: its way here, and no role.

        What the headers say of that way counts only if the peer is `trusted`, a proxy of ours.
        """
        headers, peer = request.headers, request.remote or ""
        if not trusted:
            return Visitor(role=Role.NONE, secure=request.secure, address=peer, hosts=(request.host,))
        proto = headers.get("X-Forwarded-Proto", "").split(",")[0].strip().lower()
        forwarded = [headers["X-Forwarded-Host"]] if "X-Forwarded-Host" in headers else []
        return Visitor(
            role=Role.NONE,
            framed=bool(headers.get("X-Ingress-Path")),
            secure=request.secure or proto == "https",
            address=_client(headers.getall("X-Forwarded-For", []), peer, self._is_trusted),
            hosts=(request.host, *forwarded),
        )

    def role_of(self, token: str, address: str) -> Role:
        """Return the role of a token; a wrong one is counted against `address`. Raises TooManyWrong."""
        self._wrong.check(address)
        given = token.encode("utf-8", "replace")
        # Compare with all tokens, each in constant time: the duration must not reveal which one matches.
        roles = [role for known, role in self._tokens if hmac.compare_digest(given, known)]
        if not roles:
            self._wrong.add(address)
            return Role.NONE
        return max(roles)

    def same_origin(self, request: web.Request, visitor: Visitor) -> bool:
        """Return whether a request comes from our own pages, or from a program that is no browser."""
        if visitor.how == "bearer":
            return True
        site = request.headers.get("Sec-Fetch-Site")
        if site is not None:
            return site == "same-origin"
        origin = request.headers.get("Origin")
        if origin is not None:
            return _netloc_of(origin) in {host.lower() for host in visitor.hosts}
        return visitor.how == "open"  # a local program: every browser sends one of the two headers

    # ---- the cookie ----

    def new_cookie(self, role: Role, session: str | None = None) -> str:
        """Return a new cookie's value for a role. `session` None: a new session."""
        text = f"{role.name.lower()}.{int(self._now())}.{session or secrets.token_urlsafe(12)}"
        return f"{text}.{self._signature(text)}"

    def set_cookie(self, response: web.StreamResponse, value: str, *, secure: bool) -> None:
        """Add a cookie to a response; an empty value removes it."""
        age = int(COOKIE_S) if value else 0
        flags = "; Secure" if secure else ""
        response.headers.add(
            "Set-Cookie",
            f"{self.cookie_name}={value}; Max-Age={age}; HttpOnly; SameSite=Strict{flags}",
        )

    def log_out(self, request: web.Request) -> None:
        """End the sessions of a request's cookies."""
        for value in self._cookies(request):
            found = self._read(value)
            if found is not None:
                self._note(found[2], math.inf)

    def _from_cookie(self, request: web.Request) -> tuple[Role, str | None]:
        """Return the role of a request's first valid cookie, and its replacement if it must be renewed."""
        for value in self._cookies(request):
            found = self._read(value)
            if found is not None:
                role, issued, session = found
                return role, self.new_cookie(role, session) if self._now() - issued > RENEW_S else None
        return Role.NONE, None

    def _cookies(self, request: web.Request) -> list[str]:
        """Return the values of all our cookies, in order.

        A browser sends one for each path, the longest path first: it may be an old one.
        """
        headers = request.headers.getall("Cookie", [])
        pairs = [pair.strip().partition("=") for header in headers for pair in header.split(";")]
        return [value for name, _, value in pairs if name == self.cookie_name]

    def _read(self, value: str) -> tuple[Role, float, str] | None:
        """Return (role, issued, session) of a valid cookie, else None."""
        text, _, signature = value.rpartition(".")
        given = signature.encode("utf-8", "replace")
        if not text or not hmac.compare_digest(given, self._signature(text).encode()):
            return None
        word, digits, session = text.split(".")  # we signed the text, so its format is valid
        role, issued = Role[word.upper()], float(digits)
        if not -GRACE_S <= self._now() - issued < COOKIE_S:
            return None
        newest = self._newest.get(session, 0.0)
        if issued < newest - GRACE_S:
            return None
        if issued > newest:
            self._note(session, issued)
        return role, issued, session

    def _note(self, session: str, issued: float) -> None:
        self._newest[session] = issued
        self._newest.move_to_end(session)
        while len(self._newest) > MAX_SESSIONS:
            self._newest.popitem(last=False)

    def _signature(self, text: str) -> str:
        return hmac.new(self._key, text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()

    def _is_trusted(self, address: str) -> bool:
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            return False
        if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        return any(ip in network for network in self._trusted if network.version == ip.version)


def is_loopback(host: str) -> bool:
    """Return whether a host is a loopback address or `localhost`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _host_of(url: str) -> str:
    """Return the host of an untrusted URL; blank if there is none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _netloc_of(url: str) -> str | None:
    """Return host and port of an untrusted URL, in lower case; None if it is no URL."""
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:
        return None


def _subscriber(address: str) -> str:
    """Return what one subscriber has of the address space: an IPv4 address, or an IPv6 prefix of 64 bits."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv4Address):
        return address
    return str(ip.ipv4_mapped or ipaddress.IPv6Address(int(ip) >> 64 << 64))


def _client(forwarded: Sequence[str], peer: str, trusted: Callable[[str], bool]) -> str:
    """Return the client's address: the last one in X-Forwarded-For that is no trusted proxy's."""
    for address in reversed([part.strip() for header in forwarded for part in header.split(",")]):
        try:
            ipaddress.ip_address(address)
        except ValueError:
            return peer
        if not trusted(address):
            return address
    return peer
