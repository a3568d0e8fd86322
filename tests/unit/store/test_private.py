"""The private parts of miniopy-async that the store uses exist, with the same arguments, each in one file."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from miniopy_async.api import Minio
from miniopy_async.credentials.credentials import Credentials

import async_motion

STORE = Path(async_motion.__file__).parent / "store"

ARGUMENTS = {
    "_build_headers": ["self", "host", "headers", "body", "creds"],  # overridden
    "_execute": ["self", "method", "bucket_name", "object_name"],  # called
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_a_private_method_is_still_as_we_use_it(name: str) -> None:
    method = getattr(Minio, name, None)
    assert method is not None, f"miniopy_async.api.Minio.{name} is gone"
    found = list(inspect.signature(method).parameters)[: len(ARGUMENTS[name])]
    assert found == ARGUMENTS[name], f"miniopy_async.api.Minio.{name} takes {found}"
    if name == "_execute":
        assert "query_params" in inspect.signature(method).parameters, f"{name} takes no query_params"


def test_credentials_still_have_an_expiration() -> None:
    found = getattr(Credentials("key", "secret"), "_expiration", "gone")
    assert found is None, "miniopy_async.credentials.credentials.Credentials._expiration is gone"


@pytest.mark.parametrize(
    ("name", "file"),
    [("_build_headers", "minio.py"), ("_execute", "minio.py"), ("_expiration", "s3credentials.py")],
)
def test_one_file_touches_it(name: str, file: str) -> None:
    touching = {
        path.name for path in STORE.rglob("*.py") if re.search(rf"\.{name}\b", path.read_text("utf-8"))
    }
    assert touching == {file}
