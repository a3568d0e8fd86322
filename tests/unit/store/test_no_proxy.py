"""NO_PROXY: which hosts are reached without the proxy."""

from __future__ import annotations

import pytest

from async_motion.store.no_proxy import is_excluded


@pytest.mark.parametrize(
    ("no_proxy", "host"),
    [
        ("*", "minio.lan"),
        ("minio.lan", "minio.lan"),
        ("MinIO.lan", "minio.LAN"),
        ("lan", "minio.lan"),
        (".lan", "minio.lan"),
        ("*.lan", "minio.lan"),
        ("localhost, .lan ,other", "minio.lan"),
        ("localhost minio.lan", "minio.lan"),
        ("minio.lan:9000", "minio.lan"),
        ("192.168.1.9", "192.168.1.9"),
        ("192.168.0.0/16", "192.168.1.9"),
        ("192.168.1.1/16", "192.168.1.9"),
        ("192.168.1.9:9000", "192.168.1.9"),
        ("fd00::9", "fd00::9"),
        ("fd00::/8", "[fd00::9]"),
        ("[fd00::9]:9000", "fd00::9"),
    ],
)
def test_excluded(no_proxy: str, host: str) -> None:
    assert is_excluded(host, 9000, no_proxy)


@pytest.mark.parametrize(
    ("no_proxy", "host"),
    [
        ("", "minio.lan"),
        (",", "minio.lan"),
        (".", "minio.lan"),
        ("minio.lan", "other.lan"),
        ("lan", "wlan"),
        ("minio.lan:443", "minio.lan"),
        ("192.168.0.0/16", "10.0.0.1"),
        ("192.168.0.0/16", "minio.lan"),
        ("192.168.0.0/99", "192.168.0.1"),
        ("fd00::/8", "fe80::1"),
        ("fd00::/8", "192.168.1.9"),
        ("[fd00::9]:443", "fd00::9"),
    ],
)
def test_through_the_proxy(no_proxy: str, host: str) -> None:
    assert not is_excluded(host, 9000, no_proxy)
