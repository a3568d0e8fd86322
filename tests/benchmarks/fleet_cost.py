"""``python -m tests.benchmarks.fleet_cost [--seconds N]``: what a fleet adds to an idle worker.

An idle service without a camera runs alone and as the only worker of a fleet, beside each other, with one
NATS server. A renewal's cost is measured in this process, against the same server.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from pathlib import Path

from async_motion.fleet.leases import LeaseKeeper
from async_motion.fleet.nats_bucket import NatsBucket
from tests.support.mqtt import mosquitto
from tests.support.nats import nats_server
from tests.support.ports import free_port
from tests.support.s3 import User, seaweedfs
from tests.support.service import Service

RENEWALS = 500
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """Return the processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def _keys(user: User) -> dict[str, str]:
    return {"access_key": user.access_key, "secret_key": user.secret_key}


async def renewal_ms(url: str) -> float:
    """Return the processor time of this process for one renewal."""
    async with NatsBucket([url], "cost", ttl_s=60.0, worker="w") as bucket:
        keeper = LeaseKeeper(bucket, "w", ttl_s=60.0)
        lease = await keeper.acquire("porch")
        assert lease is not None
        begun = time.process_time()
        for _ in range(RENEWALS):
            lease = await keeper.renew(lease)
        return (time.process_time() - begun) / RENEWALS * 1000


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.fleet_cost", description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with (
            nats_server(folder / "nats") as server,
            seaweedfs(folder / "s3") as store,
            mosquitto(folder / "mqtt") as broker,
        ):
            base = {
                "instance": "cost",
                "mqtt": {"host": "127.0.0.1", "port": broker.port},
                "minio": {"endpoint": store.endpoint, **_keys(store.admin)},
                "cameras": {"porch": {"source": "demo:", "enabled": False}},
            }
            plain = {**base, "instance": "alone", "web": {"port": free_port()}}
            fleet = {**base, "web": {"port": free_port()}, "fleet": {"servers": [server.url], "name": "w"}}
            alone, worker = Service(plain, folder / "alone"), Service(fleet, folder / "worker")
            with alone, worker:
                time.sleep(10)  # the start
                pids = {"alone": alone.pid, "worker": worker.pid, "nats": server.pid}
                before = {name: cpu_s(pid) for name, pid in pids.items()}
                time.sleep(seconds)
                for name, pid in pids.items():
                    percent = (cpu_s(pid) - before[name]) / seconds * 100
                    print(f"{name:8} {percent:6.2f} % of a core  {resident_mib(pid):6.1f} MiB")
            print(f"renewal  {asyncio.run(renewal_ms(server.url)):6.2f} ms of a core")


if __name__ == "__main__":
    main()
