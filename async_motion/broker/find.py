"""Find the broker: the configured one, an embedded one started here, or the one that a service started.

The embedded broker moves to the next free port when its own is taken. A command beside the service recognises
it by a retained message: the status of the service's instance.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from async_motion.broker.client import BrokerClient
from async_motion.broker.embedded import HOST, EmbeddedBroker
from async_motion.errors import BrokerUnavailable

ANSWER_S = 2.0
"""How long a broker on this machine may take to deliver the retained status."""
RETRY_S = 1.0


@asynccontextmanager
async def run_broker(host: str | None, port: int) -> AsyncIterator[tuple[str, int]]:
    """Yield the address of the broker at `host`; None: of an embedded one that runs inside the block."""
    if host is not None:
        yield host, port
        return
    async with EmbeddedBroker(port=port) as address:
        yield address


async def find_embedded(
    port: int, status_topic: str, *, connect: Callable[[str, int], BrokerClient], say: Callable[[str], None]
) -> tuple[str, int]:
    """Return the address of the embedded broker that retains `status_topic`; wait for it if necessary.

    `port` is the service's first choice. While it is free, that is the address, so that a listener may start
    before the service. While something else listens there, the service will take another port; the ports are
    probed every second, and `say` is called once. `connect` returns a client for an address.
    """
    ports = range(port, min(port + EmbeddedBroker.PORTS_TRIED, 65536))
    logged = False
    while True:
        for candidate in ports:
            if await _listens(candidate) and await _retains(connect(HOST, candidate), status_topic):
                return HOST, candidate
        if not await _listens(port):
            return HOST, port
        if not logged:
            logged = True
            say(f"{HOST}:{port} does not retain {status_topic}; waiting for the service")
        await asyncio.sleep(RETRY_S)


async def _listens(port: int) -> bool:
    """Return whether a port of this machine accepts connections."""
    try:
        _, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True


async def _retains(client: BrokerClient, topic: str) -> bool:
    """Return whether the client's broker retains a message on `topic`."""
    found = asyncio.Event()
    client.subscribe(topic, lambda *_: found.set())
    async with asyncio.TaskGroup() as tasks:
        connection = tasks.create_task(client.run(), name="find broker")
        try:
            async with asyncio.timeout(ANSWER_S):
                await found.wait()
        except (TimeoutError, BrokerUnavailable):
            return False
        finally:
            connection.cancel()
    return True
