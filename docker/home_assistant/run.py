"""Start async_motion as a Home Assistant app: what the Supervisor knows becomes its environment.

/data/options.json     the app's options
http://supervisor      the MQTT broker, where one is installed
/config                variables.yaml, made at the first start; the page writes it
/media/async_motion    the stored frames: Home Assistant's media browser shows them
/data                  the spool, and the token of the page
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

SUPERVISOR_ADDRESS = "172.30.32.2"
"""From where the Supervisor's ingress connects, and nothing else."""
ANSWER_S = 10.0


def main() -> None:
    """Prepare, and become the service."""
    data = Path(os.environ.get("DATA", "/data"))
    config = Path(os.environ.get("CONFIG", "/config"))
    media = Path(os.environ.get("MEDIA", "/media"))
    options = _options(data / "options.json")
    token_file = _token_file(data / "web_token")
    broker = _broker(
        os.environ.get("SUPERVISOR", "http://supervisor"), os.environ.get("SUPERVISOR_TOKEN", "")
    )
    environment = service_environment(options, broker, data=data, media=media, token_file=token_file)
    file = _settings_file(config / "variables.yaml")
    # The environment outweighs the file: what the app is given holds.
    command = ["async-motion", "run", "--config", str(file)]
    os.execvpe(command[0], command, {**os.environ, **environment})  # noqa: S606  # it becomes the service


def service_environment(
    options: Mapping[str, Any], broker: Mapping[str, Any] | None, *, data: Path, media: Path, token_file: Path
) -> dict[str, str]:
    """Return the environment of the service. `broker` is the Supervisor's answer, None without a broker."""
    settings = {
        "WEB__HOST": "0.0.0.0",  # noqa: S104  # the app's own network: the Supervisor connects
        "WEB__PORT": "8585",
        "WEB__TOKEN_FILE": str(token_file),
        "WEB__TRUSTED_PROXIES": f"[{SUPERVISOR_ADDRESS}]",
        "WEB__REMOTE_USER": str(options.get("role", "viewer")),
        "DIRECTORY__PATH": str(media / "async_motion"),
        "SPOOL__PATH": str(data / "spool.db"),
    }
    if broker is not None:
        settings |= {
            "MQTT__HOST": str(broker["host"]),
            "MQTT__PORT": str(broker["port"]),
            "MQTT__USERNAME": str(broker.get("username") or ""),
            "MQTT__PASSWORD": str(broker.get("password") or ""),
        }
        if broker.get("ssl"):
            settings["MQTT__TLS__ENABLED"] = "true"
    return {f"ASYNC_MOTION__{key}": value for key, value in settings.items() if value}


def _options(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _token_file(path: Path) -> Path:
    """Return the file with the page's token; it is drawn at the first start, and said once."""
    if not path.exists():
        token = secrets.token_urlsafe(24)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(token)
        print(f"the page's token, for programs and for port 8585: {token}", flush=True)
    return path


def _settings_file(path: Path) -> Path:
    """Return the settings' file, made from the one that ships where there is none."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((resources.files("async_motion.settings") / "default.yaml").read_bytes())
    return path


def _broker(supervisor: str, token: str) -> dict[str, Any] | None:
    """Return what the Supervisor says of the MQTT broker; None where there is none."""
    request = urllib.request.Request(  # noqa: S310  # the Supervisor's own address
        f"{supervisor}/services/mqtt", headers={"Authorization": f"Bearer {token}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:  # noqa: S310
            said = json.load(answer)
        found = said["data"]
        if not isinstance(found, dict) or not found.get("host") or not found.get("port"):
            raise ValueError("it names no broker")
    except (OSError, urllib.error.URLError, ValueError, KeyError, TypeError) as exc:
        print(
            f"no MQTT broker from the Supervisor ({exc}): install the Mosquitto app, then restart this one;"
            " until then Home Assistant does not find the cameras",
            file=sys.stderr,
            flush=True,
        )
        return None
    return found


if __name__ == "__main__":
    main()
