"""A child process inherits paths, locale and driver names, but no settings and no credentials."""

from __future__ import annotations

from async_motion.core.children import child_environment


def test_a_child_gets_no_setting_and_no_credential() -> None:
    kept = {"PATH": "/bin", "HOME": "/root", "LC_ALL": "C", "LIBVA_DRIVER_NAME": "iHD"}
    secret = {
        "ASYNC_MOTION__MINIO__SECRET_KEY": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "MINIO_ROOT_PASSWORD": "x",
    }
    assert child_environment(kept | secret) == kept
