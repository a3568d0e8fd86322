"""The subscriber's example in config/README.md, run unchanged except for addresses and keys."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

from tests.support import mqtt, s3
from tests.support.readme import SETTINGS, blocks
from tests.support.wait import eventually


def test_the_subscriber_fetches_what_is_announced(tmp_path: Path, seaweedfs: s3.S3Server) -> None:
    (block,) = blocks(SETTINGS, "python")
    bucket = seaweedfs.make_bucket()
    s3.run(_put(seaweedfs, bucket))
    (tmp_path / "broker").mkdir()
    with mqtt.Rumqttd(tmp_path / "broker") as broker, mqtt.Recorder(broker.port, ()) as sender:
        reader = seaweedfs.admin
        program = (
            block.replace("localhost:9000", seaweedfs.endpoint)
            .replace('"reader"', repr(reader.access_key))
            .replace('"the reader\'s secret key"', repr(reader.secret_key))
            .replace('aiomqtt.Client("localhost")', f'aiomqtt.Client("127.0.0.1", {broker.port})')
        )
        said = tmp_path / "said"
        with said.open("wb") as out:
            process = subprocess.Popen([sys.executable, "-u", "-c", program], stdout=out, stderr=out)
        try:

            def answered() -> bool:
                assert process.poll() is None, said.read_text()
                message = {"camera": "porch", "score": 0.25, "bucket": bucket, "object_key": "a/b.jpg"}
                sender.publish("async_motion/edge1/porch/frame", json.dumps(message))
                return "porch 0.25 11 bytes" in said.read_text()

            eventually(answered, what="the example to fetch the frame")
        finally:
            process.kill()
            process.wait()


async def _put(server: s3.S3Server, bucket: str) -> None:
    async with server.raw() as client:
        await client.put_object(bucket, "a/b.jpg", io.BytesIO(b"eleven byte"), 11)
