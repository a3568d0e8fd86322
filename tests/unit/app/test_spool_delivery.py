"""Delivery of a spool copied from another host, to a directory and a real broker."""

from __future__ import annotations

from pathlib import Path

import pytest

from async_motion.app.spool_delivery import deliver
from async_motion.errors import SpoolError
from async_motion.settings import Settings, load
from async_motion.spool import Spool
from tests.support.mqtt import Recorder, mosquitto
from tests.support.records import end_of, make_event, make_record, start_of


def settings(tmp_path: Path, port: int) -> Settings:
    file = tmp_path / "variables.yaml"
    file.write_text(
        f"instance: edge1\nmqtt: {{host: 127.0.0.1, port: {port}}}\n"
        f"directory: {{path: {tmp_path / 'objects'}}}\nspool: {{path: {tmp_path / 'other.db'}}}\n"
    )
    return load(file, {})


async def test_what_it_holds_is_stored_and_announced_as_delayed(tmp_path: Path) -> None:
    carried = tmp_path / "carried.db"
    event = make_event(worker="east", epoch=7)
    record = make_record(event, 0)
    async with Spool(carried) as spool:
        await spool.accept([record, start_of(event), end_of(event)])
    with mosquitto(tmp_path / "mqtt") as broker, Recorder(broker.port, ("async_motion/#",)) as world:
        left = await deliver(settings(tmp_path, broker.port), carried, print)
        # The broker passes on what was published before in this order.
        world.publish("async_motion/mark")
        world.wait("async_motion/mark")
        assert (left.records, left.phases, left.set_aside) == (0, 0, 0)
        frames = [message.json() for message in world.on("async_motion/edge1/porch/frame")]
        events = [message.json() for message in world.on("async_motion/edge1/porch/event")]
        assert not world.on("async_motion/edge1/porch/snapshot")
    assert [(frame["frame_id"], frame["delayed"], frame["epoch"]) for frame in frames] == [
        (record.info.frame_id, True, 7)
    ]
    assert [(said["type"], said["delayed"]) for said in events] == [("start", True), ("end", True)]
    assert list((tmp_path / "objects").rglob("000000.jpg"))


async def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(SpoolError, match="there is no spool"):
        await deliver(settings(tmp_path, 1), tmp_path / "nothing.db", print)
    assert not (tmp_path / "nothing.db").exists()
