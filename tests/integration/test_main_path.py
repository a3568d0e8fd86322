"""The main path with real peers: H.264 over RTSP, an S3 server, a broker, and the real process."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import jsonschema
import numpy as np
import pytest

from async_motion.core.index import event_day, index_key, line_of, parse_line, unpack
from tests.support import mqtt, rtsp, s3
from tests.support.ports import free_port
from tests.support.service import ROOT, Service
from tests.support.video import make_clip
from tests.support.wait import eventually

SCHEMAS = {
    name: json.loads((ROOT / f"async_motion/schemas/{name}-1.json").read_text())
    for name in ("frame", "event", "event_summary", "state", "camera_state")
}
BASE = "async_motion/edge1"
CAMERA = f"{BASE}/porch"


@dataclass
class Stage:
    """Everything around the service, and the messages of a subscriber."""

    service: Service
    recorder: mqtt.Recorder
    broker: mqtt.Server
    store: s3.S3Server
    bucket: str


@contextlib.contextmanager
def camera(kind: str, folder: Path) -> Iterator[str]:
    """Yield the URL of a real RTSP camera; a box crosses its image every ten seconds."""
    clips = folder / "clips"
    clips.mkdir()
    clip = make_clip(clips / "clip.mp4", seconds=10.0, start_s=4.0, length_s=3.0, noise=1.0)
    if kind == "gstreamer":
        if not rtsp.has_gstreamer():
            s3.require("gst-rtsp-server", "apt-get install gir1.2-gst-rtsp-server-1.0 …")
        with rtsp.gstreamer(clip, login="viewer:p@ss-word") as server:
            yield f"rtsp://viewer:p%40ss-word@127.0.0.1:{server.port}/clip"
    else:
        with rtsp.toolkit(clips) as server:
            yield f"rtsp://127.0.0.1:{server.port}/clip.mp4/play_count_0"


@pytest.fixture(params=[("toolkit", mqtt.Rumqttd), ("gstreamer", mqtt.Mosquitto)], ids=["pip", "debian"])
def stage(request: pytest.FixtureRequest, tmp_path: Path, seaweedfs: s3.S3Server) -> Iterator[Stage]:
    kind, make_broker = request.param
    bucket = seaweedfs.new_name()
    (tmp_path / "broker").mkdir()
    with (
        camera(kind, tmp_path) as url,
        make_broker(tmp_path / "broker") as broker,
        mqtt.Recorder(broker.port, ("#",)) as recorder,
        Service(settings(url, broker.port, seaweedfs, bucket), tmp_path / "service") as service,
    ):
        yield Stage(service, recorder, broker, seaweedfs, bucket)


def settings(url: str, broker_port: int, store: s3.S3Server, bucket: str) -> dict[str, Any]:
    return {
        "instance": "edge1",
        "minio": {
            "endpoint": store.endpoint,
            "access_key": store.admin.access_key,
            "secret_key": store.admin.secret_key,
            "bucket": bucket,
            "prefix": "site/",
            "presign": "1h",
        },
        "mqtt": {"host": "127.0.0.1", "port": broker_port},
        "spool": {"path": "spool.db"},
        "web": {"port": free_port()},
        "cameras": {
            "porch": {
                "source": url,
                "detect": {"zones": {"left": {"polygon": [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]}}},
                "event": {"frames": {"every": "400ms"}, "off_delay": "1s"},
            }
        },
    }


@pytest.mark.timeout(180)
def test_from_a_camera_to_an_announced_object_key(stage: Stage) -> None:
    recorder = stage.recorder
    ended = recorder.wait(
        lambda m: m.topic == f"{CAMERA}/event" and m.json()["type"] == "end", within_s=90
    ).json()

    # every message follows its schema
    for message in recorder.on(f"{CAMERA}/frame"):
        jsonschema.validate(message.json(), SCHEMAS["frame"])
        assert message.qos == 1
        assert not message.retain
    for message in recorder.on(f"{CAMERA}/event"):
        jsonschema.validate(message.json(), SCHEMAS["event"])
        assert not message.retain

    for topic, schema in ((f"{BASE}/state", "state"), (f"{CAMERA}/state", "camera_state")):
        assert recorder.on(topic)
        for message in recorder.on(topic):
            jsonschema.validate(message.json(), SCHEMAS[schema])

    frames = [m.json() for m in recorder.on(f"{CAMERA}/frame") if m.json()["event_id"] == ended["event_id"]]
    assert len(frames) >= 3
    assert len({f["frame_id"] for f in frames}) == len(frames)
    assert [f["seq"] for f in frames] == list(range(len(frames)))
    assert ended["frames_stored"] == len(frames)
    assert ended["reason"] == "quiet"
    assert "left" in ended["zones"]
    assert ended["best_frame"] in {f["object_key"] for f in frames}

    # what was announced is in the bucket, as announced
    objects = s3.run(_objects(stage, frames))
    for said, (data, metadata) in zip(frames, objects, strict=True):
        assert hashlib.sha256(data).hexdigest() == said["sha256"]
        assert len(data) == said["size"]
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert image is not None
        assert image.shape == (said["height"], said["width"], 3) == (240, 320, 3)
        expected = {
            "camera": "porch",
            "instance": "edge1",
            "event-id": said["event_id"],
            "frame-id": said["frame_id"],
            "captured-at": said["captured_at"],
            "sha256": said["sha256"],
            "writer": said["writer"],
            "no": str(said["no"]),
        }
        assert expected.items() <= metadata.items()
        assert float(metadata["score"]) == pytest.approx(said["score"], abs=1e-6)
        assert said["object_key"].startswith("site/edge1/porch/")
        assert said["url"].startswith(f"http://{stage.store.endpoint}/")

    # the event's summary in the bucket lists the announced frames
    summary_key = frames[0]["object_key"].rpartition("/")[0] + "/event.json"
    ((summary, _),) = s3.run(_objects(stage, [{"object_key": summary_key}]))
    told = json.loads(summary)
    jsonschema.validate(told, SCHEMAS["event_summary"])
    assert [line["frame_id"] for line in told["frames"]] == [f["frame_id"] for f in frames]

    # the order: motion at once; a snapshot's attributes, its JPEG, its JSON, the frame's announcement; an
    # automation on the start finds a snapshot of this event
    live = [m for m in recorder.messages if not m.retain]
    names = ("motion", "snapshot/attributes", "snapshot", "snapshot/frame", "frame", "event")
    said_of = [(m.topic.removeprefix(f"{CAMERA}/"), m) for m in live if m.topic.startswith(CAMERA)]
    told_of = [(name, m) for name, m in said_of if name in names]
    kinds = [name for name, _ in told_of]
    for place in (i for i, name in enumerate(kinds) if name == "snapshot"):
        around = ["snapshot/attributes", "snapshot", "snapshot/frame", "frame"]
        assert kinds[place - 1 : place + 3] == around
        assert told_of[place - 1][1].payload == told_of[place + 1][1].payload
    start = kinds.index("event")
    assert told_of[start][1].json()["type"] == "start"
    shown = [m.json() for name, m in told_of[:start] if name == "snapshot/frame"]
    assert shown[-1]["event_id"] == told_of[start][1].json()["event_id"]
    assert "motion" in kinds[: kinds.index("frame")]
    snapshot = recorder.on(f"{CAMERA}/snapshot")[-1].payload
    assert cv2.imdecode(np.frombuffer(snapshot, np.uint8), cv2.IMREAD_COLOR) is not None

    eventually(lambda: recorder.texts(f"{CAMERA}/motion")[-1] == "OFF", what="motion OFF")
    assert "ON" in recorder.texts(f"{CAMERA}/motion")
    assert "ON" in recorder.texts(f"{CAMERA}/zone/left/motion")
    for said in frames:
        assert any(said["object_key"] in line for line in stage.service.messages()), "each key is in the log"
    assert "p@ss-word" not in stage.service.log_text()
    assert "p%40ss-word" not in stage.service.log_text()

    assert stage.service.stop() == 0
    retained = mqtt.retained(stage.broker.port, f"{BASE}/#")
    assert retained[f"{BASE}/status"] == b"offline"
    assert retained[f"{CAMERA}/status"] == b"offline"
    assert retained[f"{CAMERA}/motion"] == b"OFF"
    assert retained[f"{CAMERA}/zone/left/motion"] == b"OFF"
    assert retained[f"{CAMERA}/snapshot"][:2] == b"\xff\xd8"

    # the stop wrote the index: each event has its number there, and in its messages
    assert {frame["no"] for frame in frames} == {ended["no"]} == {told["no"]}
    day = event_day(ended["event_id"])
    key = index_key("site/", "edge1", "porch", day, ended["writer"])
    ((index, _),) = s3.run(_objects(stage, [{"object_key": key}]))
    lines = [parse_line(line, ended["writer"]) for line in unpack(index)]
    assert line_of(told) in lines


async def _objects(stage: Stage, frames: list[dict[str, Any]]) -> list[tuple[bytes, dict[str, str]]]:
    """Return bytes and user metadata of each frame's object, read by a plain client."""
    found = []
    async with stage.store.raw() as client:
        for frame in frames:
            answer = await client.get_object(stage.bucket, frame["object_key"])
            prefix = "x-amz-meta-"
            metadata = {
                k.lower().removeprefix(prefix): v
                for k, v in answer.headers.items()
                if k.lower().startswith(prefix)
            }
            found.append((await answer.read(), metadata))
            answer.release()
    return found
