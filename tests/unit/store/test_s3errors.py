"""The verdict on an S3 server's refusal, and its text."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from async_motion.store.s3errors import (
    S3Answer,
    S3Verdict,
    judge,
    parse_date,
    parse_error,
    parse_etag,
    parse_retry_after,
)

NOW = datetime(2026, 11, 22, 7, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "code", "verdict"),
    [
        (500, None, S3Verdict.UNAVAILABLE),
        (502, None, S3Verdict.UNAVAILABLE),
        (503, "SlowDown", S3Verdict.UNAVAILABLE),
        (599, "SomethingNew", S3Verdict.UNAVAILABLE),
        (408, None, S3Verdict.UNAVAILABLE),
        (429, None, S3Verdict.UNAVAILABLE),
        (400, "RequestTimeout", S3Verdict.UNAVAILABLE),
        (400, "XAmzContentSHA256Mismatch", S3Verdict.UNAVAILABLE),
        (400, "IncompleteBody", S3Verdict.UNAVAILABLE),
        (507, "XMinioStorageFull", S3Verdict.UNAVAILABLE),
        (301, None, S3Verdict.REFUSED),
        (307, "TemporaryRedirect", S3Verdict.REFUSED),
        (400, "AuthorizationHeaderMalformed", S3Verdict.REFUSED),
        (401, None, S3Verdict.REFUSED),
        (403, "InvalidAccessKeyId", S3Verdict.REFUSED),
        (403, "SignatureDoesNotMatch", S3Verdict.REFUSED),
        (403, "RequestTimeTooSkewed", S3Verdict.REFUSED),
        (404, "NoSuchBucket", S3Verdict.REFUSED),
        (400, "EntityTooLarge", S3Verdict.REJECTED),
        (404, "NoSuchKey", S3Verdict.REJECTED),
        (413, None, S3Verdict.REJECTED),
        (400, "KeyTooLongError", S3Verdict.REJECTED),
        (400, "MetadataTooLarge", S3Verdict.REJECTED),
        (403, "AccessDenied", S3Verdict.DOUBTFUL),
        (403, None, S3Verdict.DOUBTFUL),
        (404, None, S3Verdict.DOUBTFUL),
        (400, "InvalidArgument", S3Verdict.DOUBTFUL),
        (501, "NotImplemented", S3Verdict.DOUBTFUL),
        (418, "SomethingNew", S3Verdict.DOUBTFUL),
    ],
)
def test_verdicts(status: int, code: str | None, verdict: S3Verdict) -> None:
    assert judge(status, code) is verdict


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"<Error><Code>SlowDown</Code><Message>Reduce it</Message></Error>", ("SlowDown", "Reduce it")),
        (b"<Error><Code> SlowDown\n</Code></Error>", ("SlowDown", "")),
        (
            b"<Error xmlns='http://s3.amazonaws.com/doc/2006-03-01/'><Code>NoSuchKey</Code></Error>",
            ("NoSuchKey", ""),
        ),
        (b"<Error><Message>no code</Message></Error>", (None, "")),
        (b"<html><body>Bad Gateway</body></html>", (None, "")),
        (b"not xml", (None, "")),
        (b"", (None, "")),
        (b"<Error><Code>Cut", (None, "")),
    ],
)
def test_errors_are_read(body: bytes, found: tuple[str | None, str]) -> None:
    assert parse_error(body) == found


@given(st.binary(max_size=300))
def test_no_body_is_too_strange(body: bytes) -> None:
    code, message = parse_error(body)

    assert code is None or code
    assert "\n" not in message


def test_a_bomb_of_entities_is_not_an_error_of_s3() -> None:
    levels = "".join(f"<!ENTITY e{n} '{f'&e{n - 1};' * 10}'>" for n in range(1, 12))
    bomb = f"<!DOCTYPE x [<!ENTITY e0 'ha'>{levels}]><Error><Code>&e11;</Code></Error>"

    assert parse_error(bomb.encode()) == (None, "")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("-5", 0.0),
        ("1.5", 1.5),
        ("999999", 3600.0),
        ("inf", 3600.0),
        ("nan", 0.0),
        ("Sun, 22 Nov 2026 07:32:12 GMT", 60.0),
        ("Sun, 22 Nov 2026 07:00:00 GMT", 0.0),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_read(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, NOW) == seconds


def test_a_date_without_its_zone_is_utc() -> None:
    assert parse_date("Sun, 22 Nov 2026 07:31:12 -0000") == NOW
    assert parse_date("Sun, 22 Nov 2026 08:31:12 +0100") == NOW
    assert parse_date("yesterday") is None


@pytest.mark.parametrize(
    ("date", "words"),
    [
        ("Sun, 22 Nov 2026 07:51:12 GMT", "ours is 1200 s behind the store's"),
        ("Sun, 22 Nov 2026 07:11:12 GMT", "ours is 1200 s ahead of the store's"),
        (None, "the clocks differ: set"),
    ],
)
def test_a_clock_that_is_off_is_measured(date: str | None, words: str) -> None:
    headers = {"Date": date} if date else {}
    body = b"<Error><Code>RequestTimeTooSkewed</Code></Error>"

    assert words in S3Answer.read(403, headers, body, NOW).words()


@pytest.mark.parametrize(
    ("status", "headers", "body", "words"),
    [
        (400, {"x-amz-bucket-region": "eu-west-1"}, b"", "the bucket is in region eu-west-1"),
        (301, {}, b"<Error><Code>PermanentRedirect</Code></Error>", "the bucket is in another region"),
        (302, {}, b"", "HTTP 302, a redirect"),
        (502, {}, b"<html>secret page</html>", "HTTP 502 without an S3 error"),
        (
            503,
            {},
            b"<Error><Code>SlowDown</Code><Message>a\n b\x7f c</Message></Error>",
            "SlowDown: a b c",
        ),
        (503, {}, b"<Error><Code>SlowDown</Code></Error>", "SlowDown"),
    ],
)
def test_words_for_an_operator(status: int, headers: dict[str, str], body: bytes, words: str) -> None:
    said = S3Answer.read(status, headers, body, NOW).words()

    assert said.startswith(words)
    assert "secret page" not in said


def test_long_words_are_cut() -> None:
    body = b"<Error><Code>SlowDown</Code><Message>" + b"very " * 500 + b"</Message></Error>"

    assert len(S3Answer.read(503, {}, body, NOW).words()) < 250


@pytest.mark.parametrize(
    "value",
    [
        "Sun, 22 Nov 2026 07:31:12 +9999",
        "Sun, 22 Nov 0001 00:00:00 +2359",
        "Fri, 31 Dec 9999 23:59:59 -2359",
        "Sun, 22 Nov 99999 07:31:12 GMT",
        "Sun, 22 Nov 2026 07:31:12 " + "9" * 400,
        "\udcff",
    ],
)
def test_a_date_beyond_the_calendar_is_none_or_a_date(value: str) -> None:
    at = parse_date(value)
    assert at is None or at.tzinfo is UTC
    assert parse_retry_after(value, NOW) is None or 0 <= (parse_retry_after(value, NOW) or 0) <= 3600


@pytest.mark.parametrize("encoding", ["x-unknown", "shift_jis", "utf-7", "cp932", "rot13", "idna"])
def test_an_encoding_that_cannot_be_read_is_not_an_error_of_s3(encoding: str) -> None:
    body = f'<?xml version="1.0" encoding="{encoding}"?><Error><Code>SlowDown</Code></Error>'.encode()
    code, _ = parse_error(body)
    assert code in (None, "SlowDown")


@given(
    st.integers(300, 599),
    st.dictionaries(
        st.sampled_from(["Date", "Retry-After", "x-amz-bucket-region"]),
        st.text(st.characters(codec="utf-8") | st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF)),
    ),
    st.binary(max_size=300) | st.sampled_from([b"<Error><Code>\xff</Code></Error>"]),
)
@settings(deadline=None)
def test_no_answer_raises_anything_and_its_words_are_one_line(
    status: int, headers: dict[str, str], body: bytes
) -> None:
    answer = S3Answer.read(status, headers, body, NOW)
    assert isinstance(answer.verdict, S3Verdict)
    answer.words().encode()  # no lone surrogate
    assert answer.words().isprintable()


@pytest.mark.parametrize(
    ("value", "etag"),
    [('"abc"', "abc"), (None, ""), ('"\udcff"', ""), ('W/"a\r\nb"', "W/a b"), ('"' + "a" * 999 + '"', None)],
)
def test_an_etag_is_one_short_line(value: str | None, etag: str | None) -> None:
    parsed = parse_etag(value)
    if etag is not None:
        assert parsed == etag
    assert len(parsed) <= 256
    assert parsed.isprintable()


@pytest.mark.parametrize(
    "code",
    [
        "QuotaExceeded",
        "XMinioAdminBucketQuotaExceeded",
        "StorageLimitReached",
        "storage_cap_exceeded",
        "ExceededQuota",
        "InsufficientStorage",
    ],
)
def test_a_full_bucket_is_the_stores_trouble_not_the_records(code: str) -> None:
    assert judge(403, code) is S3Verdict.REFUSED
    assert judge(400, code) is S3Verdict.REFUSED


@pytest.mark.parametrize(
    ("code", "setting"),
    [("SignatureDoesNotMatch", "minio.secret_key"), ("InvalidAccessKeyId", "minio.access_key")],
)
def test_a_wrong_key_is_called_a_wrong_key(code: str, setting: str) -> None:
    words = S3Answer(403, code=code, message="The request signature we calculated does not match").words()
    assert code in words
    assert setting in words
