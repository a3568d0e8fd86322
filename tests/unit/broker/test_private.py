"""The private parts of aiomqtt and paho that `broker/connection.py` uses still exist."""

# ruff: noqa: SLF001  (that is the subject)

from __future__ import annotations

import inspect
import re
from pathlib import Path

import aiomqtt
import paho.mqtt.client
import pytest

import async_motion

ROOT = Path(async_motion.__file__).parent
PAHO_HOOKS = (
    "connect_timeout",
    "on_connect",
    "on_disconnect",
    "on_publish",
    "on_unsubscribe",
    "on_socket_register_write",
    "loop_read",
    "loop_write",
    "publish",
    "unsubscribe",
    "socket",
    "on_message",
    "_sock_recv",
    "_loop_rc_handle",
)
"""What `Connection` sets or calls on the paho client inside aiomqtt's client."""


async def test_aiomqtt_still_holds_a_paho_client() -> None:
    inner = getattr(aiomqtt.Client("127.0.0.1"), "_client", None)
    assert isinstance(inner, paho.mqtt.client.Client), "aiomqtt.Client._client is gone, or no paho client"


@pytest.mark.parametrize("name", PAHO_HOOKS)
def test_paho_still_has_the_hook(name: str) -> None:
    assert hasattr(paho.mqtt.client.Client, name), f"paho.mqtt.client.Client.{name} is gone"


async def test_paho_still_keeps_its_packet_where_it_is_bounded() -> None:
    packet = getattr(aiomqtt.Client("127.0.0.1")._client, "_in_packet", None)
    assert isinstance(packet, dict), "paho.mqtt.client.Client._in_packet is gone"
    assert packet.keys() >= {"have_remaining", "packet"}, "paho's _in_packet has other keys"


async def test_aiomqtt_still_answers_through_the_callbacks_that_are_wrapped() -> None:
    inner = aiomqtt.Client("127.0.0.1")._client
    for name in ("on_connect", "on_disconnect"):
        callback = getattr(inner, name)
        assert callback is not None, f"aiomqtt no longer sets paho's {name}"
        count = len(inspect.signature(callback).parameters)
        assert count == 5, f"aiomqtt's {name} takes {count} arguments, expected 5"


def test_no_other_file_touches_them() -> None:
    touching = {
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("*.py")
        if path.parent.name != "store"  # its client is miniopy-async's; see unit/store/test_private.py
        and re.search(r"\b_client\._|\bclient\._client\b|\bpaho\.", path.read_text("utf-8"))
    }
    assert touching == {"broker/connection.py"}
