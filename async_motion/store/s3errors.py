"""Classify the errors of an S3 server: tables and messages, no I/O.

There are four verdicts, and the store acts differently on each:

    UNAVAILABLE   temporary: timeouts, 5xx, throttling, a full disk
    REFUSED       our setup: credentials, bucket, permissions, quota, region, clock; the same for every record
    REJECTED      this object, permanently: too large, or a key or metadata that the server does not accept
    DOUBTFUL      one of the last two: the response alone does not tell (`AccessDenied` may be the user's
                  policy or a lock on this key). The store puts its probe, then the object again.

All that a server sends is parsed here. However malformed it is, it raises only `S3Answer`, and no text from
it contains a control character or a lone surrogate.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from xml.etree import ElementTree

MAX_RETRY_AFTER_S = 3600.0
"""Upper limit for the Retry-After of a server or of a proxy in front of it."""

_MAX_WORDS = 200


class S3Verdict(Enum):
    """The meaning of a refusal; see the module's docstring."""

    UNAVAILABLE = "unavailable"
    REFUSED = "refused"
    REJECTED = "rejected"
    DOUBTFUL = "doubtful"


CREDENTIALS = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidToken",
        "InvalidTokenId",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
        "UnrecognizedClientException",
    }
)
"""Codes after which fresh credentials may help."""

CLOCK = frozenset({"RequestTimeTooSkewed", "RequestExpired", "RequestNotReadyYet"})

REGION = frozenset(
    {
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
        "InvalidRegion",
        "PermanentRedirect",
        "Redirect",
        "TemporaryRedirect",
        "XMinioInvalidRegion",
    }
)

_REFUSED = (
    CREDENTIALS
    | CLOCK
    | REGION
    | {
        "AccountProblem",
        "AllAccessDisabled",
        "InvalidBucketName",
        "InvalidSecurity",
        "MissingSecurityHeader",
        "NoSuchBucket",
        "NotSignedUp",
        "XMinioAdminBucketQuotaExceeded",
        "XMinioAdminNoSuchUser",
    }
)

_REJECTED = frozenset(
    {
        "EntityTooLarge",
        "EntityTooSmall",
        "InvalidObjectState",
        "InvalidTag",
        "KeyTooLong",
        "KeyTooLongError",
        "MetadataTooLarge",
        "NoSuchKey",
        "XMinioInvalidObjectName",
        "XMinioInvalidResourceName",
        "XMinioObjectExistsAsDirectory",
        "XMinioParentIsObject",
    }
)

# Damage in transit, or a server that is busy with this key: the same request may succeed next time.
_UNAVAILABLE = frozenset(
    {
        "BadDigest",
        "IncompleteBody",
        "InternalError",
        "OperationAborted",
        "RequestTimeout",
        "ServerBusy",
        "ServiceUnavailable",
        "SlowDown",
        "SlowDownRead",
        "SlowDownWrite",
        "ThrottlingException",
        "TooManyRequests",
        "XAmzContentSHA256Mismatch",
        "XMinioServerNotInitialized",
        "XMinioStorageFull",
    }
)

_UNSUPPORTED = 501

_FULL = re.compile(r"quota|storage_?limit|limit_?reached|cap_?exceeded|insufficient_?storage", re.IGNORECASE)
"""Codes of a bucket or account that has reached its quota; they differ between servers."""

_KEYS_WRONG = {
    "InvalidAccessKeyId": "the access key is not known: check minio.access_key",
    "SignatureDoesNotMatch": "the secret key is wrong: check minio.secret_key (or a proxy changes requests)",
    "ExpiredToken": "the session token has expired: renew it",
    "ExpiredTokenException": "the session token has expired: renew it",
}

MAX_ETAG = 256


class S3Answer(Exception):
    """An HTTP response that is not a success.

    `code` and `message` are the server's own if it sent S3's XML, else None and "". `retry_after_s` is its
    Retry-After. `clock_ahead_s` is how far our clock is ahead of the server's `Date` (negative: behind), None
    without one. `region` is the bucket's, if the server named it.
    """

    def __init__(
        self,
        status: int,
        *,
        code: str | None = None,
        message: str = "",
        retry_after_s: float | None = None,
        clock_ahead_s: float | None = None,
        region: str | None = None,
    ) -> None:
        super().__init__(f"HTTP {status} {code or ''}".strip())
        self.status = status
        self.code = code
        self.message = message
        self.retry_after_s = retry_after_s
        self.clock_ahead_s = clock_ahead_s
        self.region = region

    @classmethod
    def read(cls, status: int, headers: Mapping[str, str], body: bytes, now: datetime) -> S3Answer:
        """Parse a response from its status, headers and the beginning of its body; `now` is aware."""
        code, message = parse_error(body)
        server_time = parse_date(headers.get("Date"))
        return cls(
            status,
            code=code,
            message=message,
            retry_after_s=parse_retry_after(headers.get("Retry-After"), now),
            clock_ahead_s=(now - server_time).total_seconds() if server_time else None,
            region=_plain(headers.get("x-amz-bucket-region", "")) or None,
        )

    @property
    def verdict(self) -> S3Verdict:
        """The verdict on a put with this answer."""
        return judge(self.status, self.code)

    @property
    def cause(self) -> str:
        """The reason without details that differ between objects: sizes, keys, request ids."""
        return self.code or self.words()

    def words(self) -> str:
        """Return the answer as one line for the operator, without secrets or parts of an HTML page."""
        if self.code in _KEYS_WRONG:
            return f"{self.code}: {_KEYS_WRONG[self.code]}"
        if self.code in CLOCK:
            return f"the clocks differ{self._skew()}: set this machine's clock (NTP)"
        if self.code in REGION or self.region:
            place = f"region {self.region}" if self.region else "another region"
            return f"the bucket is in {place}: set `region` (and the endpoint, if it names one)"
        if 300 <= self.status < 400:
            return f"HTTP {self.status}, a redirect: check the endpoint and `secure`"
        if self.status == 413 and self.code is None:
            return "HTTP 413: a proxy before the store limits the size (nginx: client_max_body_size)"
        if self.code is None:
            return f"HTTP {self.status} without an S3 error: is this an S3 server?"
        return f"{self.code}: {self.message.rstrip('.')}" if self.message else self.code

    def _skew(self) -> str:
        if self.clock_ahead_s is None or abs(self.clock_ahead_s) < 1:
            return ""
        side = "ahead of" if self.clock_ahead_s > 0 else "behind"
        return f", ours is {abs(self.clock_ahead_s):.0f} s {side} the store's"


def judge(status: int, code: str | None) -> S3Verdict:
    """Return the verdict on a refused put by HTTP status and S3 error code (None: no S3 error)."""
    if code in _UNAVAILABLE:
        return S3Verdict.UNAVAILABLE
    if code in _REFUSED:
        return S3Verdict.REFUSED
    if code in _REJECTED:
        return S3Verdict.REJECTED
    if code is not None and _FULL.search(code) and status < 500:
        return S3Verdict.REFUSED
    if status == _UNSUPPORTED:
        return S3Verdict.DOUBTFUL
    if status >= 500 or status in (408, 425, 429):
        return S3Verdict.UNAVAILABLE
    if status == 413:
        return S3Verdict.REJECTED
    if status < 400 or status in (401, 407):
        return S3Verdict.REFUSED
    return S3Verdict.DOUBTFUL


def parse_error(body: bytes) -> tuple[str | None, str]:
    """Return (code, message) of S3's XML error, or (None, "") if `body` is not one."""
    try:
        root = ElementTree.fromstring(body)  # noqa: S314  # expat bounds entities; the body is bounded
    except (ElementTree.ParseError, ValueError, LookupError):
        # ValueError, LookupError: an encoding that expat does not support, or Python does not know.
        return None, ""
    found = {element.tag.rpartition("}")[2]: (element.text or "").strip() for element in root}
    code = _plain(found.get("Code", ""))
    return (code, _plain(found.get("Message", ""))) if code else (None, "")


def parse_etag(value: str | None) -> str:
    """Return an ETag without its quotes and unprintable characters; "" if there is none."""
    return _plain((value or "").replace('"', ""))[:MAX_ETAG]


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Return the seconds of a Retry-After header (seconds or a date), 0..3600; None if it is neither."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        at = parse_date(value)
        if at is None:
            return None
        seconds = (at - now).total_seconds()
    # NaN becomes 0: `max` keeps its first argument when the comparison is false.
    return min(max(0.0, seconds), MAX_RETRY_AFTER_S)


def parse_date(value: str | None) -> datetime | None:
    """Return the aware UTC time of an HTTP date, or None if it is not one."""
    if not value:
        return None
    try:
        at = parsedate_to_datetime(value)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError, TypeError):
        # OverflowError: the time zone moves the date out of the supported years.
        return None


def _plain(text: str) -> str:
    """Return a server's text fit for one log line: no control characters or lone surrogates, 200 at most."""
    if not text.isprintable():
        text = "".join(char if char.isprintable() else " " for char in text)
    line = " ".join(text.split())
    return line if len(line) <= _MAX_WORDS else line[: _MAX_WORDS - 1] + "…"
