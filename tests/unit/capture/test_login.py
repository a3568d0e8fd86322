"""HTTP authentication: the examples of RFC 7616, and the challenges that cameras send."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_motion.capture.login import (
    Authorization,
    Challenge,
    Login,
    best,
    challenges,
    digest_response,
    login_of,
    wire,
)

MUFASA = Login("Mufasa", "Circle of Life")
RFC7616 = {
    "realm": "http-auth@example.org",
    "nonce": "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
    "opaque": "FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS",
    "qop": "auth, auth-int",
}


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_the_examples_of_rfc_7616(algorithm: str, response: str) -> None:
    assert response == digest_response(
        Challenge("digest", {**RFC7616, "algorithm": algorithm}),
        MUFASA,
        method="GET",
        uri="/dir/index.html",
        qop="auth",
        count="00000001",
        cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
    )


@pytest.mark.parametrize(
    ("headers", "scheme", "algorithm"),
    [
        (['Digest realm="x", nonce="1"'], "digest", "MD5"),
        (['Digest nonce="1", algorithm=MD5', 'Digest nonce="1", algorithm="SHA-256"'], "digest", "SHA-256"),
        (['Digest nonce="1", algorithm=SHA-256, realm="a, b", Basic realm="x"'], "digest", "SHA-256"),
        (['Basic realm="x"', 'Digest nonce="1", algorithm=SHA-512-256'], "basic", "MD5"),
        (["BASIC"], "basic", "MD5"),
        (['digest NONCE="1",ALGORITHM=md5-sess'], "digest", "MD5"),
    ],
)
def test_the_best_that_we_can_answer_is_chosen(headers: list[str], scheme: str, algorithm: str) -> None:
    chosen = best(challenges(headers))
    assert chosen is not None
    assert (chosen.scheme, chosen.algorithm) == (scheme, algorithm)


@pytest.mark.parametrize("headers", [[], ["Negotiate"], ['Digest nonce="1", algorithm=SHA-512-256']])
def test_what_we_cannot_answer_is_none(headers: list[str]) -> None:
    assert best(challenges(headers)) is None


def test_a_header_counts_its_requests() -> None:
    (offered,) = challenges([r'Digest realm="a \"b\"", nonce="1", qop="auth", algorithm=SHA-256, opaque="o"'])
    assert offered.parameters["realm"] == 'a "b"'
    authorization = Authorization(MUFASA, offered)
    first, second = (authorization.header("GET", "/x") for _ in range(2))
    assert "nc=00000001" in first
    assert "nc=00000002" in second
    assert r'realm="a \"b\""' in first
    assert "algorithm=SHA-256" in first
    assert "Circle" not in first
    assert "Circle" not in repr(MUFASA)


def sha256(*parts: str) -> str:
    return hashlib.sha256(":".join(parts).encode()).hexdigest()


def test_a_realm_is_hashed_and_repeated_byte_for_byte() -> None:
    realm, login = "Hof für Gäste 摄像机", Login("Jörg", "grüß")
    head = f'Digest realm="{realm}", nonce="1", algorithm=SHA-256'.encode().decode("latin-1")
    (offered,) = challenges([head])
    sent = wire(Authorization(login, offered).header("GET", "/x")).decode()
    assert f'realm="{realm}"' in sent
    assert 'username="Jörg"' in sent
    secret, request = sha256("Jörg", realm, "grüß"), sha256("GET", "/x")
    assert f'response="{sha256(secret, "1", request)}"' in sent


@pytest.mark.timeout(30)
@pytest.mark.parametrize("head", ["Digest a=1{}!", "Digest{}!", "{}!", 'Digest a="{}'])
def test_no_blanks_are_read_again_and_again(head: str) -> None:
    """An expression that tries each division of them stops the service for minutes, as it holds the GIL."""
    assert len(challenges([head.format(" " * 60_000)])) <= 1


def test_what_is_shown_of_a_challenge_is_fit_for_a_terminal() -> None:
    (offered,) = challenges([f'Digest algorithm="\x1b[2J\x85{"x" * 90}"'])
    assert offered.shown == f"??2J?{'x' * 15}"
    assert Challenge("negotiate", {}).shown == "negotiate"


def test_basic() -> None:
    assert Authorization(Login("a", "b"), Challenge("basic", {})).header("GET", "/") == "Basic YTpi"


@pytest.mark.parametrize(
    ("url", "login"),
    [
        ("http://h/x", None),
        ("http://me@h/x", Login("me", "")),
        ("rtsp://me:p%40%20ss@h/x", Login("me", "p@ ss")),
    ],
)
def test_the_login_of_an_address(url: str, login: Login | None) -> None:
    assert login_of(url) == login


@given(st.lists(st.text(max_size=100), max_size=5))
def test_any_text_is_survived(headers: list[str]) -> None:
    chosen = best(challenges(headers))
    if chosen is not None:
        Authorization(MUFASA, chosen).header("GET", "/")
