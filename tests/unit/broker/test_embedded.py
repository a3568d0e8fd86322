"""The embedded broker in a child process: port, accepted connections, restart, end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from async_motion.broker import embedded
from async_motion.broker.embedded import EmbeddedBroker
from async_motion.broker.embedded_process import read_version
from async_motion.errors import BrokerUnavailable
from tests.support.mqtt import Recorder, listens
from tests.support.wait import eventually, eventually_async

ROOT = Path(__file__).parents[3]


def alive(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def taken_port(above: int = 0) -> socket.socket:
    """Return a socket on 127.0.0.1 that listens on a port whose next port is free."""
    while True:
        sock = socket.socket()
        sock.bind(("127.0.0.1", above))
        sock.listen()
        port = sock.getsockname()[1]
        if port < 65000 and not listens(port + 1):
            return sock
        sock.close()


def test_a_taken_port_is_passed_over_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def case() -> None:
        with taken_port() as sock:
            wanted = sock.getsockname()[1]
            async with EmbeddedBroker(port=wanted) as (host, port):
                assert host == "127.0.0.1"
                assert wanted < port < wanted + EmbeddedBroker.PORTS_TRIED
                assert f"MQTT 3.1.1 and 5 on 127.0.0.1:{port} ({wanted} is taken)" in caplog.text

    asyncio.run(case())


def test_without_a_free_port_it_says_which_were_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EmbeddedBroker, "PORTS_TRIED", 1)

    async def case() -> None:
        with taken_port() as sock:
            wanted = sock.getsockname()[1]
            with pytest.raises(
                BrokerUnavailable, match=f"ports {wanted} to {wanted} are taken: set mqtt.port"
            ):
                await EmbeddedBroker(port=wanted).__aenter__()

    asyncio.run(case())


def test_it_listens_on_this_machine_alone_and_leaves_nothing_behind() -> None:
    async def case() -> None:
        broker = EmbeddedBroker(port=0)
        async with broker as (_, port):
            pid = broker.pid
            assert pid is not None
            assert listens(port)
        assert not alive(pid), "ended and waited for: no zombie"
        assert not listens(port)
        assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []

    asyncio.run(case())


def test_an_error_inside_the_block_comes_out_as_it_is() -> None:
    async def case() -> None:
        async with EmbeddedBroker(port=0):
            raise LookupError("ours")

    with pytest.raises(LookupError, match="ours"):
        asyncio.run(case())


def test_signals_to_the_whole_terminal_or_unit_are_left_to_the_parent() -> None:
    async def case() -> None:
        broker = EmbeddedBroker(port=0)
        async with broker as (_, port):
            pid = broker.pid
            assert pid is not None
            os.kill(pid, signal.SIGTERM)
            os.kill(pid, signal.SIGINT)

            def talk() -> None:
                with Recorder(port, ("t",)) as recorder:
                    recorder.publish("t", b"x")
                    recorder.wait("t")

            await asyncio.to_thread(talk)
            assert broker.pid == pid

    asyncio.run(case())


PARENT = """
import asyncio, sys
from async_motion.broker.embedded import EmbeddedBroker
async def main():
    broker = EmbeddedBroker(port=0)
    async with broker as (host, port):
        print(broker.pid, port, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


def test_it_ends_with_a_parent_that_is_killed() -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, env=environment
    ) as parent:
        assert parent.stdout is not None
        pid, port = map(int, parent.stdout.readline().split())
        assert listens(port)
        parent.kill()
    eventually(lambda: not alive(pid) or not listens(port), what="the child's end")
    eventually(lambda: not listens(port), what="the port's end")


def test_a_child_that_does_not_start_is_retried_while_the_service_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("import sys; sys.exit('no rumqttd here')")
    good = embedded.SCRIPT
    monkeypatch.setattr(embedded, "SCRIPT", broken)
    monkeypatch.setattr(embedded, "START_S", 0.2)

    async def case() -> None:
        broker = EmbeddedBroker(port=0)
        async with broker as (_, port):
            await eventually_async(lambda: "ended with code 1; starting it again in" in caplog.text)
            monkeypatch.setattr(embedded, "SCRIPT", good)

            def talk() -> None:
                # The port stays open while the child restarts: connections wait in the listen backlog.
                with Recorder(port, ("t",)) as recorder:
                    recorder.publish("t", b"x")
                    recorder.wait("t")

            await asyncio.to_thread(talk)

    asyncio.run(case())
    assert "not started on 127.0.0.1" in caplog.text


@pytest.mark.parametrize(
    "first", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x10"]
)
def test_a_peer_that_does_not_speak_mqtt_is_disconnected(first: bytes) -> None:
    async def case() -> None:
        async with EmbeddedBroker(port=0) as (host, port):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(first)
            writer.write_eof()
            async with asyncio.timeout(20):
                assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()

    asyncio.run(case())


def version_of(data: bytes) -> tuple[bytes, int]:
    async def case() -> tuple[bytes, int]:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        return await read_version(reader)

    return asyncio.run(case())


@pytest.mark.parametrize(
    ("name", "level"), [(b"\0\4MQTT", 5), (b"\0\4MQTT", 4), (b"\0\6MQIsdp", 3)], ids=["5", "3.1.1", "3.1"]
)
@pytest.mark.parametrize("length", [b"\x10", b"\x90\x01", b"\xff\xff\x03", b"\xff\xff\xff\x7f"])
def test_the_version_is_read_and_nothing_is_lost(name: bytes, level: int, length: bytes) -> None:
    start = b"\x10" + length + name + bytes([level])
    assert version_of(start + b"\x02\x00\x1e") == (start, level)


@pytest.mark.parametrize(
    "data",
    [
        b"\x30\x10\0\4MQTT\5",
        b"\x10\x10\0\4HTTP\5",
        b"\x10\x10\xff\xffMQTTMQTT\5",
        b"\x10\xff\xff\xff\xff\0\4MQT",
    ],
)
def test_a_packet_that_is_not_a_connect_has_no_version(data: bytes) -> None:
    with pytest.raises((ValueError, EOFError)):
        version_of(data)


def environments_of_children() -> list[bytes]:
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    return [env for pid in children if (env := Path(f"/proc/{pid}/environ").read_bytes())]


def test_the_child_inherits_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASYNC_MOTION__MINIO__SECRET_KEY", "never-for-a-child")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "never-for-a-child")

    async def case() -> None:
        async with EmbeddedBroker(port=0) as (_, port):
            await eventually_async(lambda: listens(port), what="the broker")
            environments = await asyncio.to_thread(environments_of_children)
            assert environments
            assert not any(b"never-for-a-child" in env for env in environments)

    asyncio.run(case())
