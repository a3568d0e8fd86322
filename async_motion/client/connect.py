"""Create a client from addresses and keys, for short programs."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from async_motion.broker.client import BrokerClient
from async_motion.client.client import MotionClient
from async_motion.core.options import BASE_TOPIC, BUCKET, MQTT_PORT, REGION
from async_motion.store.directory_reader import DirectoryReader
from async_motion.store.minio_reader import MinioReader


@asynccontextmanager
async def connect(
    *,
    instance: str,
    directory: str | os.PathLike[str] | None = None,
    endpoint: str | None = None,
    bucket: str = BUCKET,
    access_key: str | None = None,
    secret_key: str | None = None,
    secure: bool = False,
    ca_file: str | None = None,
    region: str = REGION,
    prefix: str = "",
    mqtt_host: str | None = None,
    mqtt_port: int = MQTT_PORT,
    mqtt_username: str | None = None,
    mqtt_password: str | None = None,
    mqtt_tls: bool = False,
    base_topic: str = BASE_TOPIC,
    cursor_file: str | os.PathLike[str] | None = None,
    poll_s: float = 10.0,
    patience_s: float = 300.0,
) -> AsyncIterator[MotionClient]:
    """Yield a client of one instance: with a bucket (`endpoint`) or a directory, with a broker or without.

    `secure` turns on TLS to the bucket, `mqtt_tls` to the broker; `ca_file` is the CA file for both, by
    default the system's. The other parameters are those of `MotionClient`. Raises SettingsError, ValueError.
    """
    if (directory is None) == (endpoint is None):
        raise ValueError("expected either directory or endpoint")
    reading = (
        DirectoryReader(directory, bucket=bucket)
        if directory is not None
        else MinioReader(
            endpoint=endpoint or "",
            bucket=bucket,
            access_key=access_key,
            secret_key=secret_key,
            secure=secure,
            ca_file=ca_file,
            region=region,
            create_bucket=False,
            concurrency=16,
        )
    )
    broker = None
    if mqtt_host is not None:
        broker = BrokerClient(
            host=mqtt_host,
            port=mqtt_port,
            username=mqtt_username,
            password=mqtt_password,
            tls=mqtt_tls,
            ca_file=ca_file if mqtt_tls else None,
        )
    async with (
        reading as opened,
        MotionClient(
            opened,
            broker,
            instance=instance,
            prefix=prefix,
            base_topic=base_topic,
            cursor_file=cursor_file,
            poll_s=poll_s,
            patience_s=patience_s,
        ) as client,
    ):
        yield client
