"""Read secrets from AWS Secrets Manager with boto3, which the extra `aws` installs.

boto3 finds its own credentials, region, proxy and endpoint: the `AWS_` variables, the profile, web identity,
the role of the container or machine. A name in the form of an ARN brings its region with it.

A secret is text, or a JSON object of texts. Every call asks the service, so that a rotated secret is seen.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from async_motion.errors import SecretUnavailable

CONNECT_TIMEOUT_S: Final = 3
READ_TIMEOUT_S: Final = 5
ATTEMPTS: Final = 2

_ARN = re.compile(r"arn:[a-z-]+:secretsmanager:([a-z0-9-]+):\d{12}:secret:\S+")


def fetch(name: str) -> str:
    """Return the text of the secret called `name`, a name or an ARN. Raises SecretUnavailable.

    Blocks for at most `ATTEMPTS` times both timeouts, and as long again where the credentials come from a
    service. No error message holds any part of a secret.
    """
    try:
        import boto3  # noqa: PLC0415  # an extra: few need it
        from botocore.config import Config  # noqa: PLC0415
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415
    except ImportError as exc:
        raise SecretUnavailable("boto3 is not installed: pip install 'async-motion[aws]'") from exc
    retries = {"total_max_attempts": ATTEMPTS, "mode": "standard"}
    config = Config(connect_timeout=CONNECT_TIMEOUT_S, read_timeout=READ_TIMEOUT_S, retries=retries)
    arn = _ARN.fullmatch(name)
    region = arn[1] if arn else None
    try:
        # A session of its own: the shared one would keep credentials that have changed on disk.
        client = boto3.session.Session().client("secretsmanager", region_name=region, config=config)
        try:
            answer: dict[str, Any] = client.get_secret_value(SecretId=name)
        finally:
            client.close()
    except ClientError as exc:
        error = exc.response.get("Error", {})
        raise SecretUnavailable(f"{name}: {error.get('Code')}: {_line(error.get('Message'))}") from exc
    except (BotoCoreError, ValueError, OSError) as exc:
        raise SecretUnavailable(f"{name}: {_line(exc)}") from exc
    text = answer.get("SecretString")
    if not isinstance(text, str):
        raise SecretUnavailable(f"{name}: holds binary data, expected text")
    return text


def fields_of(name: str, text: str) -> dict[str, str]:
    """Return the texts and numbers of a secret that is a JSON object. Raises SecretUnavailable."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        # The parser's message would quote the secret.
        raise SecretUnavailable(f"{name}: expected a JSON object") from None
    kinds = (str, int, float)
    return {
        key: str(value)
        for key, value in found.items()
        if isinstance(value, kinds) and not isinstance(value, bool)
    }


def _line(message: object) -> str:
    """Return an error's message as one line of at most 200 characters."""
    return " ".join(str(message).split())[:200]
