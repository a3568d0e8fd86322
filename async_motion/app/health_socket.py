"""Where `async-motion health` finds the service: an address that both derive from the same settings.

The command runs every few seconds, so this module imports little.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

ANSWER: Final = b"ok\n"
DEFAULT_CONFIG: Final = "config/processor/variables.yaml"


def socket_name(config: Path | None, env: Mapping[str, str]) -> str:
    """Return the address of the socket of the service started with this `--config` and environment.

    On Linux it is an abstract socket: it leaves no file behind, and each container has its own.
    """
    path = os.path.realpath(config or env.get("ASYNC_MOTION_CONFIG") or DEFAULT_CONFIG)
    name = f"async_motion-{os.getuid()}-{hashlib.sha256(path.encode()).hexdigest()[:16]}"
    if sys.platform == "linux":
        return f"\0{name}"
    import tempfile  # noqa: PLC0415

    return str(Path(tempfile.gettempdir(), f"{name}.sock"))
