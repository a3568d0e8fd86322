"""Least privilege for the given settings: an S3 policy, a mosquitto access list, NATS permissions.

The settings determine what the service does: it puts objects below `{prefix}{instance}/`, and every further
request to the server depends on a setting. Readers (the page, `events`, `get`, `listen --save`, programs) are
another user with other rights. Pure: text from settings.
"""

from __future__ import annotations

import re
from typing import Any

from async_motion.core.names import DiscoveryTopics
from async_motion.errors import UsageError
from async_motion.fleet.leases import bucket_name
from async_motion.settings import Settings

READER = "reader"
"""The user name in a reader's access list: the settings name only the service's user."""


def s3_policy(settings: Settings, *, reader: bool = False, aws: bool = False) -> dict[str, Any]:
    """Return the policy of the uploader, or of a reader. `aws`: include the rights to the AWS KMS key.

    MinIO needs no right to an encryption key: its server uses the key by itself. Raises UsageError for a
    prefix that a MinIO policy cannot express.
    """
    minio = settings.minio
    partition = _partition(minio.region) if aws else "aws"
    bucket = f"arn:{partition}:s3:::{minio.bucket}"
    ours = f"{_literal(minio.prefix, aws=aws)}{settings.instance}/*"
    actions = ["s3:GetObject"] if reader else ["s3:PutObject"]
    if not reader and minio.tags:
        actions.append("s3:PutObjectTagging")
    if not reader and minio.presign is not None:
        # A presigned link has the rights of the key that signed it.
        actions.append("s3:GetObject")
    statements = [_allow(actions, f"{bucket}/{ours}")]
    if reader:
        condition = {"StringLike": {"s3:prefix": [ours]}}
        statements.append({**_allow(["s3:ListBucket"], bucket), "Condition": condition})
    elif minio.create_bucket:
        statements.append(_allow(["s3:CreateBucket"], bucket))
    if aws and settings.secret_names:
        secrets = [_secret_arn(name, minio.region, partition) for name in sorted(settings.secret_names)]
        statements.append(_allow(["secretsmanager:GetSecretValue"], *secrets))
    if aws and minio.encryption.startswith("sse-kms:"):
        reads = "s3:GetObject" in actions
        statements.append(_key_rights(settings, partition, puts=not reader, reads=reads))
    return {"Version": "2012-10-17", "Statement": statements}


def mosquitto_acl(settings: Settings, *, reader: bool = False) -> str:
    """Return the lines of an `acl_file` for the service's user, or for a reader's.

    Without `mqtt.username` the lines apply to anonymous clients; such lines come first in the file.
    """
    mqtt = settings.mqtt
    base = f"{mqtt.base_topic}/{settings.instance}"
    if reader:
        return "\n".join([f"user {READER}", f"topic read {base}/#", ""])
    lines = [f"user {mqtt.username}"] if mqtt.username else []
    # Read as well: commands, and messages retained by an earlier run.
    lines.append(f"topic readwrite {base}/#")
    if mqtt.discovery.enabled:
        discovery = DiscoveryTopics(mqtt.discovery.prefix, settings.instance)
        lines.append(f"topic readwrite {discovery.hub.removesuffix('config')}#")
        lines += [f"topic read {birth}" for birth in discovery.births]
    if mqtt.frigate_topic is not None:
        lines.append(f"topic write {mqtt.frigate_topic}/+/motion")
    return "\n".join([*lines, ""])


def nats_permissions(settings: Settings, *, reader: bool = False) -> str:
    """Return the `permissions` of a worker's user in nats-server's configuration.

    A reader may list the workers with `async-motion fleet`; to move a camera takes a worker's rights.
    Raises UsageError if the settings have no fleet.
    """
    if not settings.fleet.servers:
        raise UsageError(f"{settings.origin}: fleet.servers is blank: this instance is no fleet")
    bucket = bucket_name(settings.instance)
    stream, api = f"KV_{bucket}", "$JS.API"
    publish = [f"{api}.STREAM.INFO.{stream}"]
    if not reader:
        publish += [
            f"{api}.STREAM.CREATE.{stream}",
            f"{api}.STREAM.MSG.GET.{stream}",
            f"$KV.{bucket}.>",
        ]
    publish += [
        f"{api}.CONSUMER.CREATE.{stream}",
        f"{api}.CONSUMER.INFO.{stream}.*",
        f"$JS.FC.{stream}.>",  # flow control: without it, a bucket of more than 2 MB is read halfway
    ]
    lines = ",\n".join(f'    "{subject}"' for subject in publish)
    return f'permissions {{\n  publish: [\n{lines}\n  ]\n  subscribe: ["_INBOX.>"]\n}}\n'


def _allow(actions: list[str], *resources: str) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": actions, "Resource": list(resources)}


def _literal(text: str, *, aws: bool) -> str:
    """Return `text` escaped for a policy, so that it holds no wildcard. Raises UsageError for MinIO."""
    if not aws and set(text) & set("*?$"):
        raise UsageError(
            f"minio.prefix: {text!r}: *, ? and $ are wildcards in a policy of MinIO, expected none"
        )
    return re.sub(r"[*?$]", lambda found: f"${{{found[0]}}}", text)


def _secret_arn(name: str, region: str, partition: str) -> str:
    """Return the ARN of a secret. AWS appends a hyphen and six characters to a secret's name."""
    if re.fullmatch(r"arn:.*-\w{6}", name):
        return name
    arn = name if name.startswith("arn:") else f"arn:{partition}:secretsmanager:{region}:*:secret:{name}"
    return f"{arn}-??????"


def _partition(region: str) -> str:
    """Return a region's AWS partition: the second field of its ARNs."""
    for beginning, partition in (("cn-", "aws-cn"), ("us-gov-", "aws-us-gov")):
        if region.startswith(beginning):
            return partition
    return "aws"


def _key_rights(settings: Settings, partition: str, *, puts: bool, reads: bool) -> dict[str, Any]:
    """Return the statement for the AWS KMS key. IAM names a key by its id, and an alias by a condition."""
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
