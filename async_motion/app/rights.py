"""The least rights that the settings at hand need: a policy of S3, an access list of mosquitto.

What a service does is known from its settings: it puts objects below `{prefix}{instance}/`, and what else it
asks of the server is a setting. Readers (the page, `events`, `get`, `listen --save`, programs) are another
user with other rights. Pure: text from settings.
"""

from __future__ import annotations

import re
from typing import Any

from async_motion.core.names import DiscoveryTopics
from async_motion.errors import UsageError
from async_motion.settings import Settings

READER = "reader"
"""The user of an access list that was asked for a reader: the settings name the service's alone."""


def s3_policy(settings: Settings, *, reader: bool = False, aws: bool = False) -> dict[str, Any]:
    """Return the policy of the uploader, or of a reader. `aws`: with the rights to the key of AWS KMS.

    MinIO asks for no right to an encryption key: its server uses the key by itself. Raises UsageError for a
    prefix that MinIO's policies cannot hold.
    """
    minio = settings.minio
    partition = _partition(minio.region) if aws else "aws"
    bucket = f"arn:{partition}:s3:::{minio.bucket}"
    ours = f"{_literal(minio.prefix, aws=aws)}{settings.instance}/*"
    actions = ["s3:GetObject"] if reader else ["s3:PutObject"]
    if not reader and minio.tags:
        actions.append("s3:PutObjectTagging")
    if not reader and minio.presign is not None:
        # A link carries the rights of the key that signed it.
        actions.append("s3:GetObject")
    statements = [_allow(actions, f"{bucket}/{ours}")]
    if reader:
        condition = {"StringLike": {"s3:prefix": [ours]}}
        statements.append({**_allow(["s3:ListBucket"], bucket), "Condition": condition})
    elif minio.create_bucket:
        statements.append(_allow(["s3:CreateBucket"], bucket))
    if aws and minio.encryption.startswith("sse-kms:"):
        reads = "s3:GetObject" in actions
        statements.append(_key_rights(settings, partition, puts=not reader, reads=reads))
    return {"Version": "2012-10-17", "Statement": statements}


def mosquitto_acl(settings: Settings, *, reader: bool = False) -> str:
    """Return the lines of an `acl_file` for the service's user, or for a reader's.

    Without `mqtt.username` they are the lines for those who do not log in, which come first in such a file.
    """
    mqtt = settings.mqtt
    base = f"{mqtt.base_topic}/{settings.instance}"
    if reader:
        return "\n".join([f"user {READER}", f"topic read {base}/#", ""])
    lines = [f"user {mqtt.username}"] if mqtt.username else []
    # Also read: commands, and what an earlier run has retained there.
    lines.append(f"topic readwrite {base}/#")
    if mqtt.discovery.enabled:
        discovery = DiscoveryTopics(mqtt.discovery.prefix, settings.instance)
        lines.append(f"topic readwrite {discovery.hub.removesuffix('config')}#")
        lines += [f"topic read {birth}" for birth in discovery.births]
    if mqtt.frigate_topic is not None:
        lines.append(f"topic write {mqtt.frigate_topic}/+/motion")
    return "\n".join([*lines, ""])


def _allow(actions: list[str], resource: str) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": actions, "Resource": [resource]}


def _literal(text: str, *, aws: bool) -> str:
    """Return `text` as a policy writes it where no letter of it is a wildcard."""
    if not aws and set(text) & set("*?$"):
        raise UsageError(
            f"minio.prefix: {text!r}: *, ? and $ are wildcards in a policy of MinIO, expected none"
        )
    return re.sub(r"[*?$]", lambda found: f"${{{found[0]}}}", text)


def _partition(region: str) -> str:
    """Return the partition of AWS that a region is in: the second word of every ARN there."""
    for beginning, partition in (("cn-", "aws-cn"), ("us-gov-", "aws-us-gov")):
        if region.startswith(beginning):
            return partition
    return "aws"


def _key_rights(settings: Settings, partition: str, *, puts: bool, reads: bool) -> dict[str, Any]:
    """Return the statement about the key of AWS KMS. IAM knows a key by its id, an alias by a condition."""
    minio = settings.minio
    key = minio.encryption.partition(":")[2]
    actions = ["kms:GenerateDataKey"] * puts + ["kms:Decrypt"] * reads
    if key.startswith("arn:") and ":alias/" not in key:
        return _allow(actions, key)
    if "alias/" in key:
        alias = key[key.index("alias/") :]
        scope = f"arn:{partition}:kms:{minio.region}:*:key/*"
        return {
            **_allow(actions, scope),
            "Condition": {"ForAnyValue:StringEquals": {"kms:ResourceAliases": alias}},
        }
    return _allow(actions, f"arn:{partition}:kms:{minio.region}:*:key/{key}")
