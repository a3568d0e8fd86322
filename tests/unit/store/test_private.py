"""The private part of miniopy-async that `store/minio.py` overrides is there, with the same arguments."""

from __future__ import annotations

import inspect

from miniopy_async.api import Minio

ARGUMENTS = ["self", "host", "headers", "body", "creds"]


def test_headers_are_still_made_where_ours_are() -> None:
    method = getattr(Minio, "_build_headers", None)
    assert method is not None, "miniopy_async.api.Minio._build_headers is gone"
    found = list(inspect.signature(method).parameters)
    assert found == ARGUMENTS, f"miniopy_async.api.Minio._build_headers takes {found}, expected {ARGUMENTS}"
