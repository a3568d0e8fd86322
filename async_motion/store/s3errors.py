"""What an S3 server's refusal means for us: pure tables and words, no I/O.

There are four verdicts, and delivery does something else for each:

    UNAVAILABLE   trouble that may pass: time-outs, 5xx, throttling, a full disk
    REFUSED       us: credentials, bucket, rights, region, clock; every record would meet the same
    REJECTED      this one object, for good: too large, a key or metadata that the server will not have
    DOUBTFUL      one of the last two: the answer alone does not tell (`AccessDenied` may be the user's
                  policy or a lock on this one key). The store asks its probe, then the object once more.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from xml.etree import ElementTree

MAX_RETRY_AFTER_S = 3600.0
"""A server, or what stands in front of it, that asks for more than an hour gets an hour."""

_MAX_WORDS = 200


class Verdict(Enum):
    """What a refusal means; see the module's docstring."""

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
"""Codes that say that fresh credentials may help."""

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

# Damage on the way, or a server that is busy with this very key: the same request may well succeed next time.
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


class S3Answer(Exception):
    """An answer that is not a success, as it came over the wire.

    `code` and `message` are the server's own where it sent S3's XML, else None and "". `retry_after_s` is
    its wish. `clock_ahead_s` is how far our clock is ahead of the server's (negative: behind), where it
    told the time. `region` is the bucket's, where it named it.
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
        """Return the answer that `status`, `headers` and the beginning of its body make; `now` is aware."""
        code, message = parse_error(body)
        server_time = parse_date(headers.get("Date"))
        return cls(
            status,
            code=code,
            message=message,
            retry_after_s=parse_retry_after(headers.get("Retry-After"), now),
            clock_ahead_s=(now - server_time).total_seconds() if server_time else None,
            region=headers.get("x-amz-bucket-region"),
        )

    @property
    def verdict(self) -> Verdict:
        """What the answer means for a put."""
        return judge(self.status, self.code)

    def words(self) -> str:
        """Return the answer in one line for an operator: no secret, no part of a stranger's page."""
        if self.code in CLOCK:
            return f"the clocks differ{self._skew()}: set this machine's clock (NTP)"
        if self.code in REGION or self.region:
            place = f"region {self.region}" if self.region else "another region"
            return f"the bucket is in {place}: set `region` (and the endpoint, if it names one)"
        if 300 <= self.status < 400:
            return f"HTTP {self.status}, a redirect: check the endpoint and `secure`"
        if self.code is None:
            return f"HTTP {self.status} without an S3 error: is this an S3 server?"
        return f"{self.code}: {self.message.rstrip('.')}" if self.message else self.code

    def _skew(self) -> str:
        if self.clock_ahead_s is None or abs(self.clock_ahead_s) < 1:
            return ""
        side = "ahead of" if self.clock_ahead_s > 0 else "behind"
        return f", ours is {abs(self.clock_ahead_s):.0f} s {side} the store's"


def judge(status: int, code: str | None) -> Verdict:
    """Return what a refused put means, from the HTTP status and the S3 error code (None: no S3 answer)."""
    if code in _UNAVAILABLE:
        return Verdict.UNAVAILABLE
    if code in _REFUSED:
        return Verdict.REFUSED
    if code in _REJECTED:
        return Verdict.REJECTED
    if status == _UNSUPPORTED:
        return Verdict.DOUBTFUL
    if status >= 500 or status in (408, 425, 429):
        return Verdict.UNAVAILABLE
    if status == 413:
        return Verdict.REJECTED
    if status < 400 or status in (401, 407):
        return Verdict.REFUSED
    return Verdict.DOUBTFUL


def parse_error(body: bytes) -> tuple[str | None, str]:
    """Return (code, message) of S3's XML error, or (None, "") where `body` is something else."""
    try:
        root = ElementTree.fromstring(body)  # noqa: S314  # expat bounds entities; bodies are bounded
    except ElementTree.ParseError:
        return None, ""
    found = {element.tag.rpartition("}")[2]: (element.text or "").strip() for element in root}
    code = found.get("Code")
    return (_plain(code), _plain(found.get("Message", ""))) if code else (None, "")


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Return the seconds that a Retry-After header asks for, 0..3600: it holds seconds or a date."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        at = parse_date(value)
        if at is None:
            return None
        seconds = (at - now).total_seconds()
    # A NaN fails both comparisons and so becomes the lower bound.
    return min(max(0.0, seconds), MAX_RETRY_AFTER_S)


def parse_date(value: str | None) -> datetime | None:
    """Return the aware UTC time of an HTTP date, None where it is none."""
    if not value:
        return None
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def _plain(text: str) -> str:
    """Return a stranger's words fit for one line of a log."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= _MAX_WORDS else line[: _MAX_WORDS - 1] + "…"
