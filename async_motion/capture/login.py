"""HTTP authentication (RFC 7616, RFC 7617), for HTTP and RTSP cameras.

FFmpeg supports only Digest with MD5. Newer cameras offer SHA-256, in addition to MD5 or instead of it.

A header is text with one character for each byte (ISO 8859-1), as `http.client` decodes it: a realm in any
charset is repeated and hashed byte for byte. User and password are encoded as UTF-8.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

# Without possessive quantifiers, a camera that sends a long run of blanks stalls the service.
_SCHEME = re.compile(r"\s*+([A-Za-z][\w-]*+)(?:\s++|$)")
_PARAMETER = re.compile(r'\s*+,?+\s*+([\w-]++)\s*+=\s*+(?:"((?:[^"\\]|\\.)*+)"|([^\s,"]*+))')
_STRANGE = re.compile(r"[^\w-]", re.ASCII)

HASHES: dict[str, Callable[[bytes], str]] = {
    "SHA-256": lambda data: hashlib.sha256(data).hexdigest(),
    "MD5": lambda data: hashlib.md5(data, usedforsecurity=False).hexdigest(),
}
"""Hash functions by algorithm name, the strongest first. Each also has a `-sess` variant."""

MAX_CHALLENGES = 16


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenge of a server: `scheme` in lower case, parameters by lower-case name."""

    scheme: str
    parameters: dict[str, str]

    @property
    def algorithm(self) -> str:
        """The digest's algorithm in upper case, without `-SESS`; MD5 by default."""
        return self.parameters.get("algorithm", "MD5").upper().removesuffix("-SESS")

    @property
    def session(self) -> bool:
        """Whether it is a `-sess` variant."""
        return self.parameters.get("algorithm", "").upper().endswith("-SESS")

    @property
    def shown(self) -> str:
        """The algorithm, or the scheme without one, cut and fit for a log."""
        return _STRANGE.sub("?", self.parameters.get("algorithm", self.scheme)[:20])


@dataclass(frozen=True, slots=True)
class Login:
    """A user and a password, percent-decoded."""

    user: str
    password: str = field(repr=False)


def login_of(url: str) -> Login | None:
    """Return the login in a URL, None without one."""
    parts = urlsplit(url)
    if parts.username is None:
        return None
    return Login(unquote(parts.username), unquote(parts.password or ""))


def challenges(headers: Iterable[str]) -> list[Challenge]:
    """Return the challenges in the values of WWW-Authenticate headers. Invalid text is left out."""
    found: list[Challenge] = []
    for header in headers:
        at = 0
        while (scheme := _SCHEME.match(header, at)) and len(found) < MAX_CHALLENGES:
            at = scheme.end()
            parameters: dict[str, str] = {}
            while parameter := _PARAMETER.match(header, at):
                name, quoted, plain = parameter.groups()
                text = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
                parameters.setdefault(name.lower(), text)
                at = parameter.end()
            found.append(Challenge(scheme[1].lower(), parameters))
            # A comma also separates two challenges in one header.
            comma = re.compile(r"\s*,").match(header, at)
            at = comma.end() if comma else at
    return found


def best(offered: Iterable[Challenge]) -> Challenge | None:
    """Return the strongest challenge that we support, None without one."""
    order = list(HASHES)
    digests = [one for one in offered if one.scheme == "digest" and one.algorithm in HASHES]
    if digests:
        return min(digests, key=lambda one: order.index(one.algorithm))
    return next((one for one in offered if one.scheme == "basic"), None)


class Authorization:
    """Answers one challenge, for each request again."""

    def __init__(self, login: Login, challenge: Challenge) -> None:
        self._login = login
        self._challenge = challenge
        self._count = 0
        self._cnonce = secrets.token_hex(8)

    def header(self, method: str, uri: str) -> str:
        """Return the value of the Authorization header for a request, one character for each byte."""
        login, offered = self._login, self._challenge.parameters
        if self._challenge.scheme == "basic":
            token = base64.b64encode(f"{login.user}:{login.password}".encode()).decode()
            return f"Basic {token}"
        self._count += 1
        count = f"{self._count:08x}"
        qop = "auth" if "auth" in re.split(r"[\s,]+", offered.get("qop", "")) else ""
        response = digest_response(
            self._challenge,
            login,
            method=method,
            uri=uri,
            qop=qop,
            count=count,
            cnonce=self._cnonce,
        )
        fields = {
            "username": login.user.encode().decode("latin-1"),
            "realm": offered.get("realm", ""),
            "nonce": offered.get("nonce", ""),
            "uri": uri,
            "response": response,
        }
        if "opaque" in offered:
            fields["opaque"] = offered["opaque"]
        parts = [f'{name}="{_quoted(text)}"' for name, text in fields.items()]
        if "algorithm" in offered:
            parts.append(f"algorithm={offered['algorithm']}")
        if qop:
            parts += [f"qop={qop}", f"nc={count}", f'cnonce="{self._cnonce}"']
        elif self._challenge.session:
            parts.append(f'cnonce="{self._cnonce}"')
        return "Digest " + ", ".join(parts)


def digest_response(
    challenge: Challenge, login: Login, *, method: str, uri: str, qop: str, count: str, cnonce: str
) -> str:
    """Return the `response` of a Digest (RFC 7616, 3.4.1); `qop` is `auth` or empty."""
    digest = HASHES[challenge.algorithm]

    def hashed(*parts: str | bytes) -> str:
        return digest(b":".join(part if isinstance(part, bytes) else wire(part) for part in parts))

    nonce = challenge.parameters.get("nonce", "")
    secret = hashed(login.user.encode(), challenge.parameters.get("realm", ""), login.password.encode())
    if challenge.session:
        secret = hashed(secret, nonce, cnonce)
    request = hashed(method, uri)
    return hashed(secret, nonce, count, cnonce, qop, request) if qop else hashed(secret, nonce, request)


def wire(header: str) -> bytes:
    """Return the bytes of a header's text."""
    return header.encode("latin-1", "replace")


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
