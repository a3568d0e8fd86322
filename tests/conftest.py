"""Fixtures that several rooms share. Servers start on first use, once for the whole run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import s3, tls


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3.S3Server]:
    """A running SeaweedFS. Whoever pauses or kills it brings it back."""
    with s3.seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server


@pytest.fixture(scope="session")
def juicefs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3.S3Server]:
    """A running gateway of JuiceFS. Whoever pauses or kills it brings it back."""
    with s3.juicefs(tmp_path_factory.mktemp("juicefs")) as server:
        yield server


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tls.Authority:
    """A home-made certificate authority, with a certificate for 127.0.0.1 and localhost."""
    return tls.make_authority(tmp_path_factory.mktemp("authority"))
