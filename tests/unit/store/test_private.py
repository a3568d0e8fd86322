"""The private methods of miniopy-async that the store uses exist, with the same arguments."""

from __future__ import annotations

import inspect

import pytest
from miniopy_async.api import Minio

ARGUMENTS = {
    "_build_headers": ["self", "host", "headers", "body", "creds"],  # store/minio.py overrides it
    "_execute": ["self", "method", "bucket_name", "object_name"],  # store/minio_reader.py calls it
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_a_private_method_is_still_as_we_use_it(name: str) -> None:
    method = getattr(Minio, name, None)
    assert method is not None, f"miniopy_async.api.Minio.{name} is gone"
    found = list(inspect.signature(method).parameters)[: len(ARGUMENTS[name])]
    assert found == ARGUMENTS[name], f"miniopy_async.api.Minio.{name} takes {found}"
    if name == "_execute":
        assert "query_params" in inspect.signature(method).parameters, f"{name} takes no query_params"
