"""Build the readers of the bucket from settings. Separate from `build`: reading commands need no OpenCV.

A store's module is imported when it is built: aiohttp is half of the time that a command takes to start, and
the directory needs none of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from async_motion.retrieval import EventReader
from async_motion.settings import Settings

if TYPE_CHECKING:
    from async_motion.store.directory_reader import DirectoryReader
    from async_motion.store.lifecycle import LifecycleStore
    from async_motion.store.minio_reader import MinioReader

    AnyReader: TypeAlias = MinioReader | DirectoryReader

READS_AT_ONCE = 16


def build_bucket(
    settings: Settings, *, key: tuple[str, str] | None = None, bucket: str | None = None, making: bool = False
) -> AnyReader:
    """Return a reader of the store that the settings name. Opening it creates nothing.

    `key` is an (access key, secret key) with the right to read, in place of the uploader's. `bucket` names
    another bucket on the same server. `making`: a put may create the bucket, if the settings allow it.
    """
    if settings.minio.endpoint is None:
        from async_motion.store.directory_reader import DirectoryReader

        return DirectoryReader(settings.directory.path, bucket=settings.minio.bucket)
    from async_motion.store.minio_reader import MinioReader

    arguments = minio_arguments(settings) | {"concurrency": READS_AT_ONCE}
    if bucket is not None:
        arguments |= {"bucket": bucket}
    if key is not None:
        access_key, secret_key = key
        arguments |= {"access_key": access_key, "secret_key": secret_key}
        arguments |= {"session_token": None, "credentials": "static", "secret_name": None}
    return MinioReader(**arguments, create_bucket=making and settings.minio.create_bucket)


def build_folder(path: Path) -> DirectoryReader:
    """Return a reader of a folder, independent of the store in the settings."""
    from async_motion.store.directory_reader import DirectoryReader

    return DirectoryReader(path)


def build_events(
    settings: Settings, bucket: AnyReader, instance: str | None = None, *, max_cached_lines: int = 0
) -> EventReader:
    """Return a reader of one instance's events in an opened bucket; the default is our own instance."""
    return EventReader(
        bucket,
        instance=instance or settings.instance,
        prefix=settings.minio.prefix,
        max_requests=READS_AT_ONCE,
        max_cached_lines=max_cached_lines,
    )


def build_lifecycle(settings: Settings) -> LifecycleStore:
    """Return a client for the bucket's lifecycle rules."""
    from async_motion.store.lifecycle import LifecycleStore

    return LifecycleStore(**minio_arguments(settings), create_bucket=False)


def minio_arguments(settings: Settings) -> dict[str, Any]:
    """Return the arguments of a MinioStore, except `create_bucket`."""
    minio = settings.minio
    return {
        "endpoint": minio.endpoint,
        "bucket": minio.bucket,
        "access_key": minio.access_key,
        "secret_key": minio.secret_key.get_secret_value() if minio.secret_key else None,
        "session_token": minio.session_token.get_secret_value() if minio.session_token else None,
        "credentials": minio.credentials,
        "secret_name": minio.secret_name,
        "secure": minio.secure,
        "ca_file": None if minio.ca_file is None else str(minio.ca_file),
        "cert_file": None if minio.cert_file is None else str(minio.cert_file),
        "key_file": None if minio.key_file is None else str(minio.key_file),
        "region": minio.region,
        "link_endpoint": minio.public_endpoint,
        "path_style": minio.path_style,
        "concurrency": minio.concurrency,
        "connect_timeout_s": minio.timeout.connect,
        "put_timeout_s": minio.timeout.put,
        "tags": minio.tags,
        "encryption": minio.encryption,
        "probe_key": f"{minio.prefix}{settings.instance}/async_motion_probe.txt",
    }
