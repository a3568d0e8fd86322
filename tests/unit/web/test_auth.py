"""Authorisation: every route for every role, the cookie's lifetime, proxies, and guessed tokens."""

# ruff: noqa: SLF001  (cookies and failures as the guard keeps them)

from __future__ import annotations

import ipaddress
import logging
import re
from typing import Any

import aiohttp
import pytest

from async_motion.web import Web
from async_motion.web.api import Api
from async_motion.web.api.routing import BASE
from async_motion.web.auth import (
    COOKIE_S,
    GRACE_S,
    MAX_ADDRESSES,
    MAX_WRONG,
    RENEW_S,
    WRONG_S,
    Guard,
    Role,
    TooManyWrong,
    WrongTokens,
)
from tests.unit.web.kit import TOKEN, VIEWER, Stage, bearer, get, serving

TOKENS: dict[str, Any] = {"token": TOKEN, "viewer_token": VIEWER}
LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)


PAGES = {
    "/": Role.VIEWER,
    "/camera": Role.VIEWER,
    "/events": Role.VIEWER,
    "/event": Role.VIEWER,
    "/zones": Role.ADMIN,
    "/settings": Role.ADMIN,
    "/health": Role.VIEWER,
    "/metrics": Role.VIEWER,
    "/logout": Role.VIEWER,
}
"""The role that each route outside the API wants."""
OPEN = {"/healthz", "/readyz", "/login", "/static/{name}"}
NAMES = {"{camera}": "porch", "{event_id}": "20261122T060000000Z-ffffff", "{seq}": "0", "{number}": "7"}


def all_routes() -> list[tuple[str, str, Role]]:
    """Return (method, path, role wanted) of every route of the server that is not open to all."""
    stage = Stage()
    api = {(r.method, BASE + r.path): Role(r.role) for r in Api(stage.site()).routes}
    guard = Guard(host="127.0.0.1", instance="edge1")
    server = Web(host="127.0.0.1", port=0, guard=guard, site=stage.site())
    found = []
    for route in server._application().router.routes():
        assert route.resource is not None
        path = route.resource.canonical
        # aiohttp adds a HEAD to each GET of a page. A route that stands in neither table is an error here.
        if path not in OPEN:
            role = api[route.method, path] if path.startswith(BASE) else PAGES[path]
            found.append((route.method, _named(path, NAMES), role))
    return found


def _named(path: str, names: dict[str, str]) -> str:
    for name, value in names.items():
        path = path.replace(name, value)
    return path


def test_the_table_of_roles_holds_every_route() -> None:
    routes = all_routes()
    assert {path.partition("?")[0] for _, path, _ in routes if not path.startswith(BASE)} == set(PAGES)
    assert {(m, p) for m, p, _ in routes if p.startswith(BASE)} == {
        (route.method, _named(BASE + route.path, NAMES)) for route in Api(Stage().site()).routes
    }
    assert {role for method, path, role in routes if method not in ("GET", "HEAD") and path != "/logout"} == {
        Role.ADMIN
    }, "a viewer changes nothing"


STREAMS = ("/stream", "/news")


async def ask(session: aiohttp.ClientSession, method: str, path: str, **headers: str) -> tuple[int, str]:
    async with session.request(method, path, headers=headers, allow_redirects=False) as answer:
        text = "" if answer.status == 200 and path.endswith(STREAMS) else await answer.text()
        return answer.status, text


@pytest.mark.parametrize("how", ["nothing", "wrong token", "forged ingress", "forged cookie"])
async def test_nothing_is_shown_or_done_without_a_role(how: str) -> None:
    headers = {
        "nothing": {},
        "wrong token": bearer("wrong"),
        "forged ingress": {"X-Remote-User-Id": "1", "X-Ingress-Path": "/x", "X-Forwarded-For": "172.30.32.2"},
        "forged cookie": {"Cookie": "async_motion_00000000=admin.1.x.00"},
    }[how]
    async with serving(Stage(), **TOKENS) as session:
        for method, path, _ in all_routes():
            status, text = await ask(session, method, path, **headers)
            assert status in (401, 429), (method, path)
            for secret in ("Front porch", "edge1", "watching", TOKEN):
                assert secret not in text, (method, path)


async def test_a_viewer_looks_and_changes_nothing() -> None:
    async with serving(Stage(), **TOKENS) as session:
        for method, path, role in all_routes():
            status, _ = await ask(session, method, path, **bearer(VIEWER))
            assert (status == 403) == (role > Role.VIEWER), (method, path, status)
            assert status != 401


async def test_another_origin_changes_nothing_with_the_cookie_of_an_admin() -> None:
    async with serving(Stage(), **TOKENS) as session:
        cookie, _ = await logged_in(session, TOKEN)
        for method, path, _ in all_routes():
            if method in ("GET", "HEAD"):
                continue
            for origin in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "same-site"}, {}):
                headers = {"Cookie": cookie.partition(";")[0], **origin}
                status, text = await ask(session, method, path, **headers)
                assert (status, "another page" in text) == (403, True), (method, path, origin)


async def test_an_admin_is_let_through() -> None:
    async with serving(Stage(), **TOKENS) as session:
        for method, path, _ in all_routes():
            assert (await ask(session, method, path, **bearer(TOKEN)))[0] not in (401, 403), (method, path)


# ---- the cookie ----


async def logged_in(session: aiohttp.ClientSession, token: str, **headers: str) -> tuple[str, str]:
    """Exchange a token; return the answer's Set-Cookie and Location."""
    data = {"token": token, "to": "health"}
    headers = {"Sec-Fetch-Site": "same-origin", **headers}
    async with session.post("/login", data=data, headers=headers, allow_redirects=False) as answer:
        assert answer.status == 303
        return answer.headers["Set-Cookie"], answer.headers["Location"]


async def test_a_token_is_exchanged_for_a_cookie() -> None:
    async with serving(Stage(), **TOKENS) as session:
        cookie, to = await logged_in(session, VIEWER)
        assert to == "health"
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert "Path" not in cookie, "the browser scopes it to the page's folder, whatever the prefix"
        assert "Secure" not in cookie
        assert VIEWER not in cookie
        value = cookie.split(";")[0]
        assert (await get(session, "/health", Cookie=value))[0] == 200
        assert '"role":"viewer"' in (await get(session, "/api/v1/session", Cookie=value))[1]


async def test_a_token_in_the_address_only_exchanges_itself() -> None:
    async with serving(Stage(), **TOKENS) as session:
        async with session.get(f"/health?token={TOKEN}", allow_redirects=False) as answer:
            assert answer.status == 303
            assert answer.headers["Location"] == "health"
            assert "Set-Cookie" in answer.headers
        for path in ("/metrics", "/api/v1/state", "/health"):
            status, text = await get(session, f"{path}?token=wrong")
            assert status == 401
            assert "Set-Cookie" not in text
        assert (await get(session, f"/api/v1/state?token={TOKEN}"))[0] == 401


async def test_a_log_out_ends_the_session_and_its_copies() -> None:
    async with serving(Stage(), **TOKENS) as session:
        value = (await logged_in(session, TOKEN))[0].split(";")[0]
        headers = {"Cookie": value, "Sec-Fetch-Site": "same-origin"}
        async with session.post("/logout", headers=headers, allow_redirects=False) as answer:
            assert answer.status == 303
            assert "Max-Age=0" in answer.headers["Set-Cookie"]
        assert (await get(session, "/health", Cookie=value))[0] == 401


async def test_a_response_that_sets_a_cookie_does_not_renew_another() -> None:
    """The last one would win: a log-out would leave a cookie, a log-in the earlier role."""
    now = 1e9
    async with serving(Stage(), now=lambda: now, **TOKENS) as session:
        old = (await logged_in(session, VIEWER))[0].split(";")[0]
        now += RENEW_S + 1
        headers = {"Cookie": old, "Sec-Fetch-Site": "same-origin"}
        form = {"token": TOKEN, "to": "health"}
        async with session.post("/login", data=form, headers=headers, allow_redirects=False) as answer:
            (cookie,) = answer.headers.getall("Set-Cookie")
        assert "=admin." in cookie
        async with session.post("/logout", headers=headers, allow_redirects=False) as answer:
            (cookie,) = answer.headers.getall("Set-Cookie")
        assert "Max-Age=0" in cookie


async def test_a_cookie_that_is_no_longer_valid_hides_no_other() -> None:
    """A browser sends those of a longer path first, such as one that was set for the API."""
    now = 1e9
    async with serving(Stage(), now=lambda: now, **TOKENS) as session:
        stale = (await logged_in(session, VIEWER))[0].split(";")[0]
        now += COOKIE_S
        first, second = [(await logged_in(session, TOKEN))[0].split(";")[0] for _ in range(2)]
        for cookies in (f"{stale}; {first}; {second}", f"{stale}x; other=1;{second}"):
            assert '"role":"admin"' in (await get(session, "/api/v1/session", Cookie=cookies))[1]
        headers = {"Cookie": f"{stale}; {first}; {second}", "Sec-Fetch-Site": "same-origin"}
        async with session.post("/logout", headers=headers, allow_redirects=False) as answer:
            assert answer.status == 303
        for cookie in (first, second):
            assert (await get(session, "/health", Cookie=cookie))[0] == 401, "all its sessions ended"


def test_a_cookie_expires_renews_and_its_predecessor_ends() -> None:
    now = 1e9
    guard = Guard(host="0.0.0.0", instance="edge1", now=lambda: now, **TOKENS)
    first = guard.new_cookie(Role.ADMIN)
    assert guard._read(first) is not None
    now += RENEW_S + 1
    found = guard._read(first)
    assert found is not None
    second = guard.new_cookie(Role.ADMIN, found[2])
    assert guard._read(first) is not None, "the second may have been lost on its way"
    assert guard._read(second) is not None
    now += GRACE_S
    assert guard._read(first) is None, "its successor was used: this one is a copy"
    now += COOKIE_S
    assert guard._read(second) is None


@pytest.mark.parametrize(
    "path", ["/%5C/evil.example", "/https:evil.example", "/a%0D%0AX-Evil:%201", "/settings"]
)
async def test_a_token_in_the_address_leads_to_our_own_pages_alone(path: str) -> None:
    async with (
        serving(Stage(), **TOKENS) as session,
        session.get(f"{path}?token={TOKEN}", allow_redirects=False) as answer,
    ):
        assert answer.status == 303
        assert answer.headers["Location"] == ("settings" if path == "/settings" else "./")


@pytest.mark.parametrize("tokens", [{}, TOKENS], ids=["open", "token"])
async def test_what_is_no_host_or_origin_is_refused_and_no_bug(
    tokens: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(Stage(), **tokens) as session:
        assert (await get(session, "/", Host="["))[0] in (401, 403)
        for path in ("/login", "/logout"):
            async with session.post(path, headers={"Origin": "http://["}, allow_redirects=False) as answer:
                assert answer.status in (401, 403)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_page_that_asks_the_api_for_hours_does_not_log_its_browser_out() -> None:
    """A cookie without `Path` is scoped to the folder of the response's URL (RFC 6265, 5.1.4)."""
    now = 1e9
    async with serving(stage := Stage(), now=lambda: now, **TOKENS):
        jar = aiohttp.CookieJar(unsafe=True)  # as a browser keeps them; `unsafe`: also those of an IP address
        async with aiohttp.ClientSession(stage.url, cookie_jar=jar) as browser:
            await logged_in(browser, VIEWER)
            for _ in range(3):
                now += RENEW_S + 1
                for path in ("/api/v1/cameras", "/api/v1/cameras/porch/scores", "/healthz", "/health"):
                    assert (await get(browser, path))[0] == 200, path
            assert {cookie["path"] for cookie in jar} == {"/"}
            (cookie,) = jar
            assert float(cookie.value.split(".")[1]) == now, "an open page renews it by /healthz"


@pytest.mark.parametrize("change", ["role", "time", "session", "signature", "empty", "dots"])
def test_a_forged_cookie_is_nothing(change: str) -> None:
    guard = Guard(host="0.0.0.0", instance="edge1", **TOKENS)
    role, issued, session, signature = guard.new_cookie(Role.VIEWER).split(".")
    forged = {
        "role": f"admin.{issued}.{session}.{signature}",
        "time": f"{role}.{int(issued) + 9}.{session}.{signature}",
        "session": f"{role}.{issued}.{session}x.{signature}",
        "signature": f"{role}.{issued}.{session}.{'0' * 64}",
        "empty": "",
        "dots": "...",
    }[change]
    assert guard._read(forged) is None


def test_another_token_ends_every_session() -> None:
    cookie = Guard(host="0.0.0.0", instance="edge1", token="one").new_cookie(Role.ADMIN)
    assert Guard(host="0.0.0.0", instance="edge1", token="one")._read(cookie) is not None
    assert Guard(host="0.0.0.0", instance="edge1", token="two")._read(cookie) is None


def test_instances_on_one_host_have_cookies_of_their_own() -> None:
    one, two = (Guard(host="0.0.0.0", instance=name, token="t") for name in ("edge1", "edge2"))
    assert one.cookie_name != two.cookie_name


@pytest.mark.parametrize(
    "to", ["https://evil.example/", "//evil.example", "/x", "a/b", "javascript:x", "a\r\nX: y"]
)
async def test_a_login_goes_on_to_our_own_pages_alone(to: str) -> None:
    async with serving(Stage(), **TOKENS) as session:
        headers = {"Sec-Fetch-Site": "same-origin"}
        data = {"token": TOKEN, "to": to}
        async with session.post("/login", data=data, headers=headers, allow_redirects=False) as answer:
            assert answer.headers["Location"] == "./"


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("application/x-www-form-urlencoded; charset=nonsense", b"token=x", 401),
        ("multipart/form-data", b"token=x", 401),
        ("application/x-www-form-urlencoded", b"token=%ff\xff", 400),
        ("application/x-www-form-urlencoded", b"a=1&" * 1000, 400),
        ("application/x-www-form-urlencoded", b"token=" + b"x" * 10_000, 413),
    ],
)
async def test_an_odd_login_is_answered(
    kind: str, body: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(Stage(), **TOKENS) as session:
        headers = {"Sec-Fetch-Site": "same-origin", "Content-Type": kind}
        async with session.post("/login", data=body, headers=headers, allow_redirects=False) as answer:
            assert answer.status == status
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


# ---- same origin ----


@pytest.mark.parametrize(
    ("headers", "good"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "http://SELF"}, True),
        ({}, False),
    ],
)
async def test_what_changes_something_comes_from_our_own_pages(headers: dict[str, str], good: bool) -> None:
    stage = Stage()
    async with serving(stage, **TOKENS) as session:
        value = (await logged_in(session, TOKEN))[0].split(";")[0]
        own = stage.url.removeprefix("http://")
        given = {name: text.replace("SELF", own) for name, text in headers.items()}
        status, _ = await ask(session, "POST", "/logout", Cookie=value, **given)
        assert (status == 303) == good
        assert good or status == 403
        assert (await get(session, "/health", Cookie=value))[0] == (401 if good else 200)


async def test_without_a_token_another_page_in_the_browser_changes_nothing() -> None:
    async with serving() as session:
        for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
            assert (await ask(session, "POST", "/logout", **headers))[0] == 403
        assert (await ask(session, "POST", "/logout"))[0] == 303


# ---- no token ----


async def test_a_foreign_name_for_the_loopback_address_is_refused() -> None:
    async with serving() as session:
        for host in ("evil.example", "evil.example:8585", "192.168.0.1", ""):
            status, text = await get(session, "/", Host=host)
            assert status in (400, 403)
            assert "porch" not in text
        for host in ("localhost:8585", "127.0.0.1", "[::1]:80"):
            assert (await get(session, "/", Host=host))[0] == 200


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"])
async def test_without_a_token_requests_through_a_proxy_are_refused(header: str) -> None:
    async with serving() as session:
        status, text = await get(session, "/api/v1/state", **{header: "203.0.113.9"})
        assert status == 403
        assert "web.token" in text


async def test_with_a_token_any_name_will_do() -> None:
    async with serving(Stage(), host="0.0.0.0", token=TOKEN) as session:
        assert (await get(session, "/", Host="cams.example", **bearer(TOKEN)))[0] == 200


# ---- proxies ----


async def test_ingress_is_believed_from_trusted_proxies_alone() -> None:
    person = {"X-Remote-User-Id": "7", "X-Remote-User-Display-Name": "Ada <b>", "X-Ingress-Path": "/api/x"}
    trusting: dict[str, Any] = {"trusted_proxies": LOOPBACK, "remote_user": Role.VIEWER, **TOKENS}
    async with serving(Stage(), **trusting) as session:
        status, text = await get(session, "/api/v1/session", **person)
        assert status == 200
        assert '"role":"viewer"' in text
        assert "Ada" in text
        async with session.get("/", headers=person) as answer:
            assert "frame-ancestors 'self'" in answer.headers["Content-Security-Policy"]
        assert (await get(session, "/api/v1/session"))[0] == 401, "a proxy that names no user"
    for distrusting in ({"remote_user": Role.ADMIN}, {"trusted_proxies": LOOPBACK}):
        async with serving(Stage(), **TOKENS, **distrusting) as session:
            assert (await get(session, "/api/v1/session", **person))[0] == 401
            async with session.get("/login", headers=person) as answer:
                framed = "frame-ancestors 'self'" in answer.headers["Content-Security-Policy"]
                assert framed == ("trusted_proxies" in distrusting)


async def test_https_in_front_of_a_trusted_proxy_makes_the_cookie_secure() -> None:
    async with serving(Stage(), trusted_proxies=LOOPBACK, **TOKENS) as session:
        cookie, _ = await logged_in(session, TOKEN, **{"X-Forwarded-Proto": "https"})
        assert "Secure" in cookie
    async with serving(Stage(), **TOKENS) as session:
        cookie, _ = await logged_in(session, TOKEN, **{"X-Forwarded-Proto": "https"})
        assert "Secure" not in cookie


# ---- guessing ----


async def test_an_address_that_guesses_tokens_waits_and_others_do_not() -> None:
    stage = Stage()
    async with serving(stage, trusted_proxies=LOOPBACK, **TOKENS) as session:
        cookie = (await logged_in(session, TOKEN, **{"X-Forwarded-For": "203.0.113.1"}))[0].split(";")[0]
        guesser = {"X-Forwarded-For": "203.0.113.1"}
        for _ in range(MAX_WRONG):
            assert (await get(session, "/api/v1/state", **guesser, **bearer("wrong")))[0] == 401
        async with session.get("/api/v1/state", headers={**guesser, **bearer(TOKEN)}) as answer:
            assert answer.status == 429, "also with the right one: the answer must not tell"
            assert int(answer.headers["Retry-After"]) > 0
        data = {"token": TOKEN}
        async with session.post(
            "/login", data=data, headers={**guesser, "Sec-Fetch-Site": "same-origin"}
        ) as answer:
            assert answer.status == 429
            assert "Too many wrong tokens" in await answer.text()
        assert (await get(session, "/api/v1/state", Cookie=cookie, **guesser))[0] == 200
        other = {"X-Forwarded-For": "203.0.113.1, 203.0.113.2"}
        assert (await get(session, "/api/v1/state", **other, **bearer(TOKEN)))[0] == 200


def test_wrong_tokens_are_forgotten_and_bounded() -> None:
    now = 0.0
    wrong = WrongTokens(lambda: now)
    for _ in range(MAX_WRONG):
        wrong.check("a")
        wrong.add("a")
    with pytest.raises(TooManyWrong):
        wrong.check("a")
    now = WRONG_S + 1
    wrong.check("a")
    for number in range(MAX_ADDRESSES):
        wrong.add(str(number))
    with pytest.raises(TooManyWrong):
        wrong.check("never seen")
    wrong.check("7")
    assert len(wrong._wrong) <= MAX_ADDRESSES + 1


async def test_tokens_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving(Stage(), **TOKENS) as session:
        await get(session, f"/?token={TOKEN}")
        await get(session, f"/?token={TOKEN}-wrong")
        await get(session, "/", **bearer(TOKEN))
    assert not re.search(TOKEN, caplog.text)
