"""An OpenID Connect provider as SeaweedFS asks one: its key at `/jwks`, and tokens signed with that key."""

from __future__ import annotations

import base64
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

CLIENT = "async_motion"


class IdentityProvider:
    """Serves its keys on a free port of 127.0.0.1."""

    def __enter__(self) -> Self:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        keys = json.dumps({"keys": [self._public()]}).encode()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200 if self.path == "/jwks" else 404)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(keys if self.path == "/jwks" else b"")

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="identity", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def token(self, *, forged: bool = False) -> str:
        """Return a token for `CLIENT`, valid for an hour; `forged`: signed with another key."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048) if forged else self._key
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT, "sub": "edge1", "iat": now, "exp": now + 3600}
        parts = [_encoded(json.dumps(part).encode()) for part in ({"alg": "RS256", "kid": "1"}, claims)]
        signed = ".".join(parts)
        return f"{signed}.{_encoded(key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"

    def _public(self) -> dict[str, Any]:
        numbers = self._key.public_key().public_numbers()
        values = {
            name: _encoded(number.to_bytes(-(-number.bit_length() // 8), "big"))
            for name, number in (("n", numbers.n), ("e", numbers.e))
        }
        return {"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "1", **values}


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
