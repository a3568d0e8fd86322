"""Credentials from the environment, a profile and a container's credentials service."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from miniopy_async.credentials.credentials import Credentials
from miniopy_async.credentials.providers import Provider

from async_motion.errors import StoreRefused
from async_motion.store.s3credentials import EARLY, Rotating

VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_ACCESS_KEY",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SECRET_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "MINIO_ACCESS_KEY",
    "MINIO_SECRET_KEY",
)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))


@dataclass
class Issuer(Provider):
    """Issue numbered keys that are valid for `life`; fail while `broken`."""

    life: timedelta | None = None
    broken: Exception | None = None
    asked: int = 0

    async def retrieve(self) -> Credentials:
        self.asked += 1
        await asyncio.sleep(0)
        if self.broken is not None:
            raise self.broken
        expires = None if self.life is None else datetime.now(UTC) + self.life
        return Credentials(f"key-{self.asked}", "secret", None, expires)


def rotating(*issuers: Issuer) -> Rotating:
    def sources() -> Sequence[tuple[str, Provider]]:
        return [(f"source {number}", issuer) for number, issuer in enumerate(issuers)]

    return Rotating("aws", sources=sources)


async def test_keys_are_kept_while_they_are_good() -> None:
    issuer = Issuer(life=EARLY * 2)
    keys = rotating(issuer)

    assert [(await keys.retrieve()).access_key for _ in range(3)] == ["key-1"] * 3


async def test_keys_without_an_end_are_kept() -> None:
    issuer = Issuer()
    keys = rotating(issuer)

    assert [(await keys.retrieve()).access_key for _ in range(3)] == ["key-1"] * 3


async def test_keys_are_renewed_before_they_end() -> None:
    issuer = Issuer(life=EARLY / 2)
    keys = rotating(issuer)

    assert [(await keys.retrieve()).access_key for _ in range(2)] == ["key-1", "key-2"]


async def test_old_keys_serve_to_their_end_while_no_new_ones_come() -> None:
    issuer = Issuer(life=EARLY / 2)
    keys = rotating(issuer)
    await keys.retrieve()
    issuer.broken = ValueError("no")

    assert (await keys.retrieve()).access_key == "key-1"


async def test_keys_that_have_ended_are_not_used() -> None:
    issuer = Issuer(life=timedelta(seconds=-1))
    keys = rotating(issuer)
    await keys.retrieve()
    issuer.broken = ValueError("no")

    with pytest.raises(StoreRefused):
        await keys.retrieve()


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "America/Los_Angeles"])
async def test_the_local_zone_changes_nothing(monkeypatch: pytest.MonkeyPatch, zone: str) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        good, ended = Issuer(life=EARLY * 2), Issuer(life=timedelta(minutes=-1))
        keeps, renews = rotating(good), rotating(ended)
        for _ in range(3):
            await keeps.retrieve()
            await renews.retrieve()
    finally:
        monkeypatch.undo()
        time.tzset()

    assert (good.asked, ended.asked) == (1, 3)


async def test_what_was_refused_is_forgotten() -> None:
    issuer = Issuer()
    keys = rotating(issuer)
    await keys.retrieve()

    keys.forget()

    assert (await keys.retrieve()).access_key == "key-2"


async def test_many_at_once_ask_once() -> None:
    issuer = Issuer(life=EARLY * 2)
    keys = rotating(issuer)

    async with asyncio.TaskGroup() as tasks:
        for number in range(8):
            tasks.create_task(keys.retrieve(), name=f"retrieve {number}")

    assert issuer.asked == 1


async def test_the_next_source_is_asked() -> None:
    first, second = Issuer(broken=ValueError("no")), Issuer()

    assert (await rotating(first, second).retrieve()).access_key == "key-1"
    assert (first.asked, second.asked) == (1, 1)


async def test_no_source_has_keys_and_no_secret_is_shown() -> None:
    secret = "https://sts.example.org/?WebIdentityToken=very-secret failed"
    keys = rotating(Issuer(broken=ValueError(secret)), Issuer(broken=TimeoutError()))

    with pytest.raises(StoreRefused) as caught:
        await keys.retrieve()

    assert "source 0 (ValueError), source 1 (TimeoutError)" in str(caught.value)
    assert "very-secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


async def test_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIO_ACCESS_KEY", "of-minio")
    monkeypatch.setenv("MINIO_SECRET_KEY", "s")
    keys = Rotating("env")
    assert (await keys.retrieve()).access_key == "of-minio"

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-aws")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    keys.forget()
    found = await keys.retrieve()
    assert (found.access_key, found.session_token) == ("of-aws", "token")


async def test_an_empty_environment_is_reported() -> None:
    with pytest.raises(StoreRefused, match="AWS_… environment"):
        await Rotating("env").retrieve()


async def test_a_profile_that_was_renewed_is_read_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "credentials"
    file.write_text("[edge]\naws_access_key_id = first\naws_secret_access_key = s\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_PROFILE", "edge")
    keys = Rotating("aws")
    try:
        assert (await keys.retrieve()).access_key == "first"

        file.write_text("[edge]\naws_access_key_id = second\naws_secret_access_key = s\n")
        keys.forget()

        assert (await keys.retrieve()).access_key == "second"
    finally:
        await keys.close()


class TestContainer:
    @pytest.fixture
    async def served(self, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[str]]:
        """Serve a container's credentials; yield the list of Authorization headers received."""
        tokens: list[str] = []

        async def give(request: web.Request) -> web.Response:
            tokens.append(request.headers.get("Authorization", ""))
            expires = datetime.now(UTC) + timedelta(hours=1)
            body = {
                "AccessKeyId": "of-the-role",
                "SecretAccessKey": "s",
                "Token": "session",
                "Expiration": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
            return web.Response(text=json.dumps(body))

        app = web.Application()
        app.router.add_get("/keys", give)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{port}/keys")
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "let-me")
        yield tokens
        await runner.cleanup()

    async def test_the_role_of_a_container(self, served: list[str]) -> None:
        keys = Rotating("aws")
        try:
            found = [await keys.retrieve() for _ in range(3)]
        finally:
            await keys.close()

        assert {(each.access_key, each.session_token) for each in found} == {("of-the-role", "session")}
        assert served == ["let-me"]
