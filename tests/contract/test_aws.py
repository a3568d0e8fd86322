"""AWS's ways to credentials and encryption, on servers that check what they are sent.

Web identity: moto and SeaweedFS, whose provider verifies the token's signature. The machine's role: a
stand-in for the metadata service, version 2. Encryption: SeaweedFS, with OpenBao as its key server.
"""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from async_motion.app.rights import s3_policy
from async_motion.aws_secrets import fetch
from async_motion.errors import RecordRejected, SecretUnavailable, StoreRefused, StoreUnavailable
from async_motion.settings import Unresolved, load
from async_motion.store.minio import MinioStore
from tests.support.identity import CLIENT, IdentityProvider
from tests.support.moto import Moto
from tests.support.openbao import KEY, OpenBao
from tests.support.s3 import REGION, S3Server, User, run, seaweedfs
from tests.support.wait import eventually

VARIABLES = (
    *("AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_SESSION_TOKEN"),
    *("AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN", "AWS_ENDPOINT_URL"),
    *("AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
)
MAY_PUT = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": ["s3:PutObject"], "Resource": ["arn:aws:s3:::motion/*"]}],
}


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))


async def put(store: MinioStore, key: str = "a.jpg", data: bytes = b"jpeg") -> None:
    await store.put(key, data, content_type="image/jpeg", metadata={}, tags={})


def save(file: Path, text: str) -> None:
    file.write_text(text)


def store_of(endpoint: str, **more: Any) -> MinioStore:
    return MinioStore(endpoint=endpoint, bucket="motion", region=REGION, create_bucket=False, **more)


def make_bucket(server: Moto | S3Server) -> None:
    async def make() -> None:
        async with server.raw() as client:
            await client.make_bucket("motion")

    run(make())


def can_fetch(name: str) -> bool:
    try:
        fetch(name)
    except SecretUnavailable as exc:
        assert "AccessDenied" in str(exc)  # noqa: PT017  # any other failure is the test's
        return False
    return True


class TestMoto:
    @pytest.fixture
    def server(self, tmp_path: Path) -> Iterator[Moto]:
        with Moto(tmp_path) as server:
            make_bucket(server)
            yield server

    @pytest.fixture
    async def token_service(self, server: Moto, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
        """moto's STS. AWS takes its arguments in the query or the body, moto finds it by the body alone."""

        async def move(request: web.Request) -> web.Response:
            kind = {"Content-Type": "application/x-www-form-urlencoded"}
            url = f"http://{server.endpoint}/"
            async with (
                aiohttp.ClientSession() as session,
                session.post(url, data=request.query_string.encode(), headers=kind) as answer,
            ):
                return web.Response(status=answer.status, body=await answer.read())

        app = web.Application()
        app.router.add_post("/", move)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{runner.addresses[0][1]}")
        yield
        await runner.cleanup()

    @pytest.mark.usefixtures("token_service")
    async def test_the_role_of_a_web_identity(
        self, server: Moto, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        save(tmp_path / "token", "moto-does-not-read-it")
        monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
        monkeypatch.setenv("AWS_ROLE_ARN", server.make_role("uploader", MAY_PUT))
        async with store_of(server.endpoint, credentials="aws") as store:
            await put(store, "before.jpg")  # gets the credentials
            server.enforce()
            await put(store)
            with pytest.raises((StoreRefused, RecordRejected)):
                await store.get("a.jpg")

    async def test_a_profile(self, server: Moto, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        user = server.make_user("uploader", MAY_PUT)
        lines = f"aws_access_key_id = {user.access_key}\naws_secret_access_key = {user.secret_key}\n"
        (tmp_path / "credentials").write_text(f"[default]\naws_access_key_id = x\n[edge]\n{lines}")
        monkeypatch.setenv("AWS_PROFILE", "edge")
        server.enforce()
        async with store_of(server.endpoint, credentials="aws") as store:
            await put(store)
            with pytest.raises((StoreRefused, RecordRejected)):
                await store.get("a.jpg")

    async def test_keys_in_a_secret_that_rotates(self, server: Moto, monkeypatch: pytest.MonkeyPatch) -> None:
        reads = {"Effect": "Allow", "Action": ["secretsmanager:GetSecretValue"], "Resource": ["*"]}
        reader = server.make_user("edge", {"Version": "2012-10-17", "Statement": [reads]})
        first, second = (server.make_user(name, MAY_PUT) for name in ("first", "second"))

        def rotate(user: User) -> None:
            keys = {"access_key": user.access_key, "secret_key": user.secret_key}
            server.put_secret("edge/s3", json.dumps(keys))

        for name, value in server.environment(reader).items():
            monkeypatch.setenv(name, value)
        rotate(first)
        async with store_of(server.endpoint, credentials="aws-secret", secret_name="edge/s3") as store:
            await put(store)
            rotate(second)
            server.revoke("first", first)
            server.enforce()
            # Refused once with the revoked key; then with what the secret holds now.
            with pytest.raises((StoreRefused, RecordRejected)):
                await put(store)
            await put(store)

    async def test_the_printed_policy_lets_it_fetch_its_secrets(
        self, server: Moto, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """The right by its name: moto fails at a resource of Secrets Manager, so it gets `*` for that."""
        save(
            tmp_path / "variables.yaml",
            "minio: {endpoint: s3, credentials: aws-secret, secret_name: edge/s3}\n"
            "mqtt: {host: broker, username: edge, password: aws-secret:edge/mqtt}\n",
        )
        settings = load(tmp_path / "variables.yaml", {}, references=Unresolved())
        whole = s3_policy(settings, aws=True)
        assert "secret:edge/mqtt-" in str(whole["Statement"][-1]["Resource"])
        whole["Statement"][-1]["Resource"] = ["*"]
        fewer = {**whole, "Statement": whole["Statement"][:-1]}
        may, may_not = (server.make_user(name, policy) for name, policy in (("a", whole), ("b", fewer)))
        for name in ("edge/s3", "edge/mqtt"):
            server.put_secret(name, "text")
        server.enforce()

        def fetched(user: User) -> set[str]:
            for name, value in server.environment(user).items():
                monkeypatch.setenv(name, value)
            return {name for name in ("edge/s3", "edge/mqtt") if can_fetch(name)}

        assert fetched(may) == {"edge/s3", "edge/mqtt"}
        assert fetched(may_not) == set()

    async def test_a_secret_without_keys_or_that_is_not_there(
        self, server: Moto, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in server.environment(User(endpoint=server.endpoint)).items():
            monkeypatch.setenv(name, value)
        server.put_secret("edge/other", '{"password": "x-of-y"}')
        for secret, said in (
            ("edge/other", "edge/other: expected access_key and secret_key"),
            ("edge/none", "edge/none: ResourceNotFoundException"),
        ):
            async with store_of(server.endpoint, credentials="aws-secret", secret_name=secret) as store:
                with pytest.raises(StoreRefused, match=said):
                    await put(store)


class TestMachine:
    """The role of an EC2 machine, from a metadata service that answers version 2 alone."""

    @pytest.fixture
    async def asked(self, monkeypatch: pytest.MonkeyPatch, server: S3Server) -> AsyncIterator[list[str]]:
        asked: list[str] = []

        async def token(request: web.Request) -> web.Response:
            asked.append("token")
            assert 0 < int(request.headers["X-aws-ec2-metadata-token-ttl-seconds"]) <= 21600
            return web.Response(text="session-of-the-metadata-service")

        async def answer(request: web.Request) -> web.Response:
            if request.headers.get("X-aws-ec2-metadata-token") != "session-of-the-metadata-service":
                return web.Response(status=401)
            if request.match_info["role"] == "":
                return web.Response(text="uploader")
            asked.append(request.match_info["role"])
            assert server.uploader is not None
            expires = datetime.now(UTC) + timedelta(hours=6)
            return web.json_response(
                {
                    "Code": "Success",
                    "Type": "AWS-HMAC",
                    "AccessKeyId": server.uploader.access_key,
                    "SecretAccessKey": server.uploader.secret_key,
                    "Token": "",
                    "Expiration": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
                }
            )

        app = web.Application()
        app.router.add_put("/latest/api/token", token)
        app.router.add_get("/latest/meta-data/iam/security-credentials/{role:.*}", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}/"
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", endpoint)
        # A proxy of the network is not asked for the machine's own role.
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        yield asked
        await runner.cleanup()

    async def test_its_role(self, server: S3Server, asked: list[str]) -> None:
        async with store_of(server.endpoint, credentials="aws") as store:
            for number in range(3):
                await put(store, f"{number}.jpg")
        assert asked == ["token", "uploader"]


@pytest.fixture(scope="module")
def identities() -> Iterator[IdentityProvider]:
    with IdentityProvider() as provider:
        yield provider


@pytest.fixture(scope="module")
def key_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    with OpenBao(tmp_path_factory.mktemp("openbao")) as server:
        yield server


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, identities: IdentityProvider, key_server: OpenBao
) -> Iterator[S3Server]:
    keys = {"type": "openbao", "address": key_server.address, "token": key_server.token}
    kms = {"default_provider": "bao", "providers": {"bao": {**keys, "transit_path": "transit"}}}
    provider = {"issuer": identities.issuer, "clientId": CLIENT, "jwksUri": f"{identities.issuer}/jwks"}
    trust = {
        "Effect": "Allow",
        "Principal": {"Federated": "*"},
        "Action": ["sts:AssumeRoleWithWebIdentity"],
    }
    session = {"Effect": "Allow", "Action": ["sts:ValidateSession"], "Resource": ["*"]}
    iam = {
        "sts": {
            "tokenDuration": "1h",
            "maxSessionLength": "12h",
            "issuer": "seaweedfs-sts",
            "signingKey": "dGVzdC1zaWduaW5nLWtleS0zMi1jaGFyYWN0ZXJzLWxvbmc=",
        },
        "providers": [{"name": "idp", "type": "oidc", "enabled": True, "config": provider}],
        "policy": {"defaultEffect": "Deny", "storeType": "memory"},
        "policies": [
            {"name": "Up", "document": {**MAY_PUT, "Statement": [*MAY_PUT["Statement"], session]}},
        ],
        "roles": [
            {
                "roleName": "up",
                "roleArn": "arn:aws:iam::role/up",
                "trustPolicy": {"Version": "2012-10-17", "Statement": [trust]},
                "attachedPolicies": ["Up"],
            }
        ],
    }
    folder = tmp_path_factory.mktemp("seaweedfs")
    with seaweedfs(folder, kms=kms, iam=iam, domain="s3.test") as server:
        make_bucket(server)
        yield server


@pytest.fixture
def web_identity(server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The file of a token that SeaweedFS verifies."""
    file = tmp_path / "token"
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(file))
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://{server.endpoint}/")
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::role/up")
    return file


async def test_a_token_that_is_verified(
    server: S3Server, identities: IdentityProvider, web_identity: Path
) -> None:
    save(web_identity, identities.token())
    async with store_of(server.endpoint, credentials="aws") as store:
        await put(store)
        with pytest.raises((StoreRefused, RecordRejected)):
            await store.get("a.jpg")


async def test_a_forged_token(server: S3Server, identities: IdentityProvider, web_identity: Path) -> None:
    token = identities.token(forged=True)
    save(web_identity, token)
    async with store_of(server.endpoint, credentials="aws") as store:
        with pytest.raises(StoreRefused, match="no S3 credentials found") as caught:
            await put(store)
    assert token not in str(caught.value)


async def test_a_token_that_was_renewed_is_read_again(
    server: S3Server, identities: IdentityProvider, web_identity: Path
) -> None:
    save(web_identity, identities.token(forged=True))
    async with store_of(server.endpoint, credentials="aws") as store:
        with pytest.raises(StoreRefused):
            await put(store)
        save(web_identity, identities.token())
        await put(store)


async def test_the_bucket_in_the_host(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for AWS; every name below s3.test is this machine, as with a line in /etc/hosts."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def look_up(host: str, *words: Any, **more: Any) -> Any:
        if not str(host).endswith("s3.test"):
            return real(host, *words, **more)
        asked.append(host)
        return real("127.0.0.1", *words, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    user = {**server.admin.arguments(), "endpoint": f"s3.test:{server.port}"}
    store = MinioStore(**user, bucket="motion", create_bucket=False, path_style=False)
    async with store:
        await put(store, "host.jpg")
        assert await store.get("host.jpg") == b"jpeg"
    assert set(asked) == {"motion.s3.test"}
    async with store_of(server.endpoint, **keys_of(server.admin)) as by_path:
        assert await by_path.get("host.jpg") == b"jpeg"


def keys_of(user: User) -> dict[str, str]:
    return {"access_key": user.access_key, "secret_key": user.secret_key}


async def headers_of(server: S3Server, key: str) -> dict[str, str]:
    async with server.raw() as client:
        found = await client.stat_object("motion", key)
    return {str(name).lower(): value for name, value in dict(found.metadata or {}).items()}


@pytest.mark.parametrize(
    ("encryption", "sent"),
    [
        ("sse-s3", {"x-amz-server-side-encryption": "AES256"}),
        (
            f"sse-kms:{KEY}",
            {
                "x-amz-server-side-encryption": "aws:kms",
                "x-amz-server-side-encryption-aws-kms-key-id": KEY,
            },
        ),
    ],
)
async def test_the_server_encrypts(server: S3Server, encryption: str, sent: dict[str, str]) -> None:
    data = f"a frame in clear text, {encryption}".encode() * 2000
    key = f"{encryption[:7]}.jpg"
    async with store_of(server.endpoint, **keys_of(server.admin), encryption=encryption) as store:
        await store.probe()
        await put(store, key, data)
        assert await store.get(key) == data
    assert sent.items() <= (await headers_of(server, key)).items()
    assert not holds(server.folder / "data", data[:200]), "nothing of it is on the disk"


async def test_without_encryption_it_can_be_found_on_the_disk(server: S3Server) -> None:
    """That `holds` would find it."""
    data = b"a frame in clear text" * 2000
    async with store_of(server.endpoint, **keys_of(server.admin)) as store:
        await put(store, "plain.jpg", data)
    eventually(lambda: holds(server.folder / "data", data[:200]), within_s=60, what="the frame on disk")


def holds(folder: Path, text: bytes) -> bool:
    return any(text in path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def test_a_key_that_the_key_server_does_not_have(server: S3Server) -> None:
    keys = keys_of(server.admin)
    async with store_of(server.endpoint, **keys, encryption="sse-kms:no-such-key") as store:
        with pytest.raises((StoreRefused, StoreUnavailable)):
            await put(store, "unknown.jpg")


async def test_without_its_key_nothing_can_be_read(server: S3Server, key_server: OpenBao) -> None:
    """The last test: it deletes the key."""
    async with store_of(server.endpoint, **keys_of(server.admin), encryption=f"sse-kms:{KEY}") as store:
        await put(store, "lost.jpg", b"jpeg" * 5000)
        key_server.forget_key()
        with pytest.raises((StoreRefused, StoreUnavailable, RecordRejected)):
            await store.get("lost.jpg")
