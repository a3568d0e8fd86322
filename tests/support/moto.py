"""AWS as simulated by moto's server: S3, IAM, STS and Secrets Manager.

moto checks rights and signatures once `enforce` is called. Before that it accepts what a test prepares.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import urllib.request
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

import aiohttp
import boto3
from miniopy_async.api import Minio

from tests.support.ports import free_port
from tests.support.s3 import REGION, User, require
from tests.support.service import clean_environment
from tests.support.wait import eventually


class Moto:
    """A running server. Everything is in its memory."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.endpoint = f"127.0.0.1:{self.port}"
        self._folder = folder
        self._admin = User(endpoint=self.endpoint)

    def __enter__(self) -> Self:
        program = require("moto_server", "pip install 'moto[s3,iam]' flask flask-cors")
        with (self._folder / "moto.log").open("wb") as log:
            self._process = subprocess.Popen(
                [program, "-p", str(self.port)],
                env=clean_environment(INITIAL_NO_AUTH_ACTION_COUNT="1000000"),
                stdout=log,
                stderr=log,
            )
        eventually(self._answers, within_s=60, what="moto to answer")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def _answers(self) -> bool:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://{self.endpoint}/moto-api/", timeout=5),
        ):
            return True
        return False

    @contextlib.asynccontextmanager
    async def raw(self) -> AsyncIterator[Minio]:
        async with aiohttp.ClientSession() as session:
            yield Minio(
                self.endpoint,
                self._admin.access_key,
                self._admin.secret_key,
                secure=False,
                region=REGION,
                session=session,
            )

    def make_user(self, name: str, policy: Mapping[str, Any]) -> User:
        """Create an IAM user with this policy."""
        self._iam(Action="CreateUser", UserName=name)
        key = self._iam(Action="CreateAccessKey", UserName=name)
        document = json.dumps(policy)
        self._iam(Action="PutUserPolicy", UserName=name, PolicyName="only", PolicyDocument=document)
        access, secret = (
            _between(key, f"<{tag}>", f"</{tag}>") for tag in ("AccessKeyId", "SecretAccessKey")
        )
        return User(endpoint=self.endpoint, access_key=access, secret_key=secret)

    def make_role(self, name: str, policy: Mapping[str, Any]) -> str:
        """Create a role with this policy that web identities may assume; return its ARN."""
        trust = {"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRoleWithWebIdentity"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        made = self._iam(Action="CreateRole", RoleName=name, AssumeRolePolicyDocument=document)
        document = json.dumps(policy)
        self._iam(Action="PutRolePolicy", RoleName=name, PolicyName="only", PolicyDocument=document)
        return _between(made, "<Arn>", "</Arn>")

    def revoke(self, name: str, user: User) -> None:
        """Delete a user's key."""
        self._iam(Action="DeleteAccessKey", UserName=name, AccessKeyId=user.access_key)

    def put_secret(self, name: str, value: str | bytes) -> str:
        """Create or change a secret; return its ARN."""
        arguments = {"endpoint_url": f"http://{self.endpoint}", "region_name": REGION}
        keys = {"aws_access_key_id": "AKIAADMIN", "aws_secret_access_key": "not-checked-yet"}
        client = boto3.session.Session().client("secretsmanager", **arguments, **keys)
        kind = "SecretString" if isinstance(value, str) else "SecretBinary"
        try:
            made = client.create_secret(Name=name, **{kind: value})
        except client.exceptions.ResourceExistsException:
            made = client.put_secret_value(SecretId=name, **{kind: value})
        client.close()
        return str(made["ARN"])

    def environment(self, user: User | None = None) -> dict[str, str]:
        """Return the variables of a program that uses these servers, with a user's own keys."""
        variables = {"AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION, "AWS_EC2_METADATA_DISABLED": "true"}
        variables["AWS_ENDPOINT_URL"] = f"http://{self.endpoint}"
        if user is not None:
            variables |= {"AWS_ACCESS_KEY_ID": user.access_key, "AWS_SECRET_ACCESS_KEY": user.secret_key}
        return variables

    def enforce(self) -> None:
        """Check the rights of every request from now on."""
        self._post("/moto-api/reset-auth", b"0", {"Content-Type": "text/plain"})

    def _iam(self, **form: str) -> str:
        credential = "Credential=AKIAADMIN/20260101/us-east-1/iam/aws4_request"
        headers = {"Authorization": f"AWS4-HMAC-SHA256 {credential}, SignedHeaders=host, Signature=0"}
        return self._post("/", urlencode({"Version": "2010-05-08", **form}).encode(), headers)

    def _post(self, path: str, body: bytes, headers: Mapping[str, str]) -> str:
        request = urllib.request.Request(f"http://{self.endpoint}{path}", body, dict(headers))
        with urllib.request.urlopen(request, timeout=30) as answer:
            text: str = answer.read().decode()
        return text


def _between(text: str, before: str, after: str) -> str:
    return text.partition(before)[2].partition(after)[0]
