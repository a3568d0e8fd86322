"""The embedded broker's process: rumqttd, and one listening port for both versions of MQTT.

    clients ──▶ the listening socket (inherited) ──▶ version in CONNECT? ──▶ rumqttd's port for 5
                                                                       └──▶ rumqttd's port for 3.1.1

rumqttd needs a port for each version; clients need one address. So the first packet is read up to its
version, and the rest is forwarded unread. This file runs as a script and imports nothing from the package: it
starts fast, and keeps running while the package's files are replaced by an update.

It exits when its standard input closes, and so never outlives its parent, however that ends. SIGINT and
SIGTERM are ignored: they reach a whole terminal or unit, and the parent must publish its goodbye first.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

HOST = "127.0.0.1"
START_S = 10.0
FIRST_PACKET_S = 10.0
LINGER_S = 0.25
"""Time for messages in flight when the parent leaves, such as its "offline", to reach subscribers."""
CHUNK = 1 << 16

# rumqttd keeps a commit log of two segments in memory for each filter. Small segments bound the memory: 39
# MiB after 600 MB of JPEGs, against 336 MiB with the default of 100 MiB. A message may exceed a segment.
CONFIG = """
id = 0
[router]
id = 0
max_connections = 1000
max_outgoing_packet_count = 200
max_segment_size = 1048576
max_segment_count = 2
"""
LISTENER = """
[{version}.1]
name = "{version}"
listen = "{host}:{port}"
next_connection_delay_ms = 1
[{version}.1.connections]
connection_timeout_ms = 10000
max_payload_size = {max_packet}
max_inflight_count = 100
dynamic_filters = true
"""


def main() -> None:
    """Serve until standard input ends. Arguments: one JSON object with `fd` and `max_packet`."""
    options = json.loads(sys.argv[1])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    ports = {version: _free_port() for version in ("v4", "v5")}
    _start_rumqttd(ports, options["max_packet"])
    listening = socket.socket(fileno=options["fd"])
    asyncio.run(_serve(listening, ports))


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    time.sleep(LINGER_S)
    os._exit(0)


def _start_rumqttd(ports: dict[str, int], max_packet: int) -> None:
    from iotcore import IotCoreBroker  # noqa: PLC0415  # loads rumqttd, which only this process needs

    # It logs every packet as an error.
    logging.getLogger("rumqttd").setLevel(logging.CRITICAL)
    listeners = [
        LISTENER.format(version=version, host=HOST, port=port, max_packet=max_packet)
        for version, port in ports.items()
    ]
    # rumqttd takes its settings only from a file. Shared memory spares the SD card, and is writable on a
    # read-only system.
    memory = Path("/dev/shm")  # noqa: S108  # mkdtemp draws the name below it
    with tempfile.TemporaryDirectory(
        prefix="async_motion-", dir=memory if os.access(memory, os.W_OK) else None
    ) as folder:
        path = Path(folder) / "rumqttd.toml"
        path.write_text(CONFIG + "".join(listeners))
        broker = IotCoreBroker(config_path=str(path))
    broker.start()
    deadline = time.monotonic() + START_S
    for port in ports.values():
        while not _answers(port):
            if time.monotonic() > deadline:
                sys.exit(f"rumqttd did not listen within {START_S:.0f} s")
            time.sleep(0.01)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        return int(sock.getsockname()[1])


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), 1):
        return True
    return False


async def _serve(listening: socket.socket, ports: dict[str, int]) -> None:
    async def welcome(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _pass_on(reader, writer, ports)
        except (OSError, EOFError, TimeoutError, ValueError):
            pass  # not MQTT, or gone: close
        finally:
            writer.close()

    server = await asyncio.start_server(welcome, sock=listening, limit=CHUNK)
    print("ready", flush=True)  # noqa: T201  # the parent reads it
    async with server:
        await server.serve_forever()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ports: dict[str, int]) -> None:
    async with asyncio.timeout(FIRST_PACKET_S):
        head, version = await read_version(reader)
        inner_reader, inner_writer = await asyncio.open_connection(
            HOST, ports["v5" if version == 5 else "v4"]
        )
    inner_writer.write(head)

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(CHUNK):
                sink.write(data)
                await sink.drain()
        except OSError:
            pass  # the same as an end
        finally:
            # When one side ends, close both: the other pump then reads the end of its stream.
            sink.close()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(pump(reader, inner_writer), name="to-broker")
        tasks.create_task(pump(inner_reader, writer), name="to-client")


async def read_version(reader: asyncio.StreamReader) -> tuple[bytes, int]:
    """Return the start of a CONNECT packet as read, and the protocol level in it: 3, 4 (MQTT 3.1.1) or 5.

    Raises ValueError for another packet, EOFError when the stream ends early.
    """
    head = await reader.readexactly(1)
    if head[0] != 0x10:
        raise ValueError("not a CONNECT packet")
    for _ in range(4):  # the remaining length
        head += await reader.readexactly(1)
        if not head[-1] & 0x80:
            break
    size = await reader.readexactly(2)
    name = await reader.readexactly(min(int.from_bytes(size), 8))
    if name not in (b"MQTT", b"MQIsdp"):
        raise ValueError("not MQTT")
    level = await reader.readexactly(1)
    return head + size + name + level, level[0]


if __name__ == "__main__":
    main()
