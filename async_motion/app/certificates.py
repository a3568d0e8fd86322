"""Expiry dates of our peers' certificates and of our own, read every six hours, for metrics and log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from async_motion.app.specs import broker_tls, store_tls, web_tls
from async_motion.settings import Settings
from async_motion.tls import file_expires_at, peer_expires_at

log = logging.getLogger(__name__)

EVERY_S: Final = 6 * 3600.0
WARN_BEFORE: Final = timedelta(days=14)


class Certificates:
    """Keeps each certificate's expiry date. `run` reads them; `state` returns them."""

    def __init__(self, settings: Settings) -> None:
        self._ends: dict[str, datetime] = {}
        self._warned: set[str] = set()
        self.adopt(settings)

    def adopt(self, settings: Settings) -> None:
        """Use other settings; the next `run` reads the certificates that they name."""
        self._looks: dict[str, Callable[[], datetime | None]] = {}
        minio, mqtt, web = settings.minio, settings.mqtt, settings.web
        if minio.endpoint is not None and minio.secure:
            host, _, port = minio.endpoint.rpartition(":")
            if not host or port.endswith("]") or not port.isdecimal():
                host, port = minio.endpoint, "443"
            files = store_tls(settings)
            self._looks["store"] = lambda: peer_expires_at(host.strip("[]"), int(port), files)
        if mqtt.host is not None and mqtt.tls.enabled:
            broker, files_of_broker = mqtt.host, broker_tls(settings)
            self._looks["broker"] = lambda: peer_expires_at(broker, mqtt.port, files_of_broker)
        if web.tls.cert_file is not None:
            own = str(web_tls(settings).cert_file)
            self._looks["web"] = lambda: file_expires_at(own)
        self._ends = {name: ends for name, ends in self._ends.items() if name in self._looks}

    def state(self) -> dict[str, str]:
        """Return each certificate's expiry as ISO 8601, by owner: `store`, `broker`, `web`."""
        return {name: ends.isoformat() for name, ends in self._ends.items()}

    async def run(self) -> None:
        """Read the certificates now and every `EVERY_S`, until cancelled."""
        while self._looks:
            for name, look in self._looks.items():
                ends = await asyncio.to_thread(look)
                if ends is not None:
                    self._ends[name] = ends
                    self._warn(name, ends)
            await asyncio.sleep(EVERY_S)

    def _warn(self, name: str, ends: datetime) -> None:
        left = ends - datetime.now(UTC)
        if left > WARN_BEFORE:
            self._warned.discard(name)
        elif name not in self._warned:
            self._warned.add(name)
            verb = "ends" if left > timedelta() else "ended"
            log.warning("%s: its certificate %s on %s: renew it", name, verb, ends.date().isoformat())
