"""S3 credentials that are not in the settings: where they come from, and how they are renewed.

    env    AWS_ACCESS_KEY_ID …, then MINIO_ACCESS_KEY …
    aws    the environment, the shared credentials file (profile), then the role of the machine or
           container: web identity, ECS and EKS, EC2
    aws-secret
           a secret in AWS Secrets Manager: JSON with access_key, secret_key and, if temporary, session_token

The other providers are miniopy-async's. Their cache mixes UTC with local time, and their chain caches
credentials without expiry forever, even after the file has changed. So `Rotating` caches instead: it creates
new providers for each retrieval, and drops credentials that the store has refused.
"""

from __future__ import annotations

import asyncio
import configparser
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal
from xml.etree import ElementTree

import aiohttp
from miniopy_async.credentials.credentials import Credentials
from miniopy_async.credentials.providers import (
    AWSConfigProvider,
    EnvAWSProvider,
    EnvMinioProvider,
    IamAwsProvider,
    Provider,
)

from async_motion.aws_secrets import fetch, fields_of
from async_motion.errors import SecretUnavailable, StoreRefused

Kind = Literal["env", "aws", "aws-secret"]
Sources = Callable[[], Sequence[tuple[str, Provider]]]
"""Returns the providers to try, in order, each with a name for the operator."""

EARLY = timedelta(minutes=5)
"""Credentials are renewed this long before they expire; if that fails, the old ones are used until then."""

# Token services and a cloud's metadata addresses answer in milliseconds; outside that cloud, never.
_TIMEOUT = aiohttp.ClientTimeout(total=5, sock_connect=2)

_FAILURES = (
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    OSError,
    TimeoutError,
    aiohttp.ClientError,
    configparser.Error,
    ElementTree.ParseError,
)


class SecretProvider(Provider):
    """Credentials in a secret of AWS Secrets Manager, by any of the names in `_FIELDS`."""

    def __init__(self, name: str) -> None:
        self._name = name

    async def retrieve(self) -> Credentials:
        """Return the credentials. Raises SecretUnavailable."""
        fields = fields_of(self._name, await asyncio.to_thread(fetch, self._name))
        found = [next((fields[key] for key in keys if fields.get(key)), None) for keys in _FIELDS]
        access_key, secret_key, session_token = found
        if access_key is None or secret_key is None:
            raise SecretUnavailable(f"{self._name}: expected access_key and secret_key")
        return Credentials(access_key, secret_key, session_token=session_token)


_FIELDS = (
    ("access_key", "AccessKeyId", "aws_access_key_id"),
    ("secret_key", "SecretAccessKey", "aws_secret_access_key"),
    ("session_token", "SessionToken", "aws_session_token"),
)
"""The keys of a secret: ours, those of AWS's answers, those of AWS's files."""


class Rotating(Provider):
    """The credentials for each request: cached until shortly before they expire, or until refused."""

    def __init__(
        self,
        kind: Kind,
        *,
        region: str | None = None,
        secret_name: str | None = None,
        sources: Sources | None = None,
    ) -> None:
        self._region = region
        self._secret_name = secret_name
        by_kind = {"env": self._env, "aws": self._aws, "aws-secret": self._secret}
        self._sources = sources or by_kind[kind]
        self._cloud: aiohttp.ClientSession | None = None
        self._credentials: Credentials | None = None
        self._lock: asyncio.Lock | None = None

    def forget(self) -> None:
        """Drop the cached credentials: the store has refused them."""
        self._credentials = None

    async def close(self) -> None:
        """Close the connections to token services."""
        if self._cloud is not None:
            await self._cloud.close()
            self._cloud = None

    async def retrieve(self) -> Credentials:
        """Return valid credentials. Raises StoreRefused if there are none."""
        if self._fresh(EARLY):
            return self._held()
        if self._lock is None:
            self._lock = asyncio.Lock()
        async with self._lock:
            if not self._fresh(EARLY):
                try:
                    self._credentials = await self._ask()
                except StoreRefused:
                    if not self._fresh(timedelta()):
                        raise
            return self._held()

    def _held(self) -> Credentials:
        assert self._credentials is not None
        return self._credentials

    def _fresh(self, before: timedelta) -> bool:
        if self._credentials is None:
            return False
        expires = self._credentials._expiration  # noqa: SLF001  # naive UTC, with no public access
        return expires is None or datetime.now(UTC) + before < expires.replace(tzinfo=UTC)

    async def _ask(self) -> Credentials:
        tried: list[str] = []
        for name, provider in self._sources():
            try:
                return await provider.retrieve()
            except SecretUnavailable as exc:
                tried.append(f"{name} ({exc})")
            except _FAILURES as exc:
                # Leave out the message and the cause: the URL of a web identity contains its token.
                tried.append(f"{name} ({type(exc).__name__})")
        raise StoreRefused(f"no S3 credentials found; looked in: {', '.join(tried)}") from None

    def _secret(self) -> Sequence[tuple[str, Provider]]:
        assert self._secret_name is not None
        return (("AWS Secrets Manager", SecretProvider(self._secret_name)),)

    def _env(self) -> Sequence[tuple[str, Provider]]:
        return (("AWS_… environment", EnvAWSProvider()), ("MINIO_… environment", EnvMinioProvider()))

    def _role(self, session: aiohttp.ClientSession) -> Provider:
        """Return the provider of roles, at the endpoints of the variables that AWS's programs read."""
        if os.environ.get("AWS_WEB_IDENTITY_TOKEN_FILE"):
            endpoint = os.environ.get("AWS_ENDPOINT_URL_STS")
        elif any(os.environ.get(f"AWS_CONTAINER_CREDENTIALS_{kind}_URI") for kind in ("RELATIVE", "FULL")):
            endpoint = None
        else:
            endpoint = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT")
        endpoint = endpoint.rstrip("/") if endpoint else None
        return IamAwsProvider(endpoint, session, region=self._region)

    def _aws(self) -> Sequence[tuple[str, Provider]]:
        if self._cloud is None:
            # Token services are beyond a proxy; the metadata of the machine never is.
            beyond = "AWS_WEB_IDENTITY_TOKEN_FILE" in os.environ
            self._cloud = aiohttp.ClientSession(timeout=_TIMEOUT, trust_env=beyond)
        return (
            ("AWS_… environment", EnvAWSProvider()),
            ("shared credentials file", AWSConfigProvider()),
            ("role of the container or machine", self._role(self._cloud)),
        )
