"""A worker whose stops hang in every way at once still frees its cameras, and still ends."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from contextlib import ExitStack, closing
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.fleet.oracle import connected_ports
from tests.fleet.stage import SLACK_S, TTL_S, fleet_stage
from tests.support.children import capture_processes
from tests.support.http_camera import HttpCamera, Visit
from tests.support.service import ROOT, Service
from tests.support.wait import eventually

HANG = """
import os, sys, time
from pathlib import Path

if "run" in sys.argv:  # not in the capture processes
    from async_motion.app import service
    from async_motion.capture.ffmpeg.decoding import Decoder
    from async_motion.core.detection.detector import Detector

    flag = Path(__file__).with_name("hang")

    def hanging(work, name):
        def hang(*arguments):
            while flag.exists():
                flag.with_name(name).touch()
                time.sleep(0.05)
            return work(*arguments)

        return hang

    Decoder.decode = hanging(Decoder.decode, "decoding")
    Detector.update = hanging(Detector.update, "detection")
    service.LAST_WORDS_S = 3.0
"""
"""A `sitecustomize`: while the file `hang` is there, decoding and detection hang in their threads."""

BOUNDARY = b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=b\r\n\r\n"


def moving(visit: Visit) -> None:
    """Answer with MJPEG: a box that crosses the image again and again."""
    visit.send(BOUNDARY)
    number = 0
    while True:
        image = np.full((120, 160, 3), 90, np.uint8)
        if (number := number + 1) % 60 > 30:
            left = (number * 4) % 120
            image[40:80, left : left + 40] = 220
        jpeg = cv2.imencode(".jpg", image)[1].tobytes()
        visit.send(
            b"--b\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg) + jpeg + b"\r\n"
        )
        visit.wait(0.1)


@pytest.mark.fleet
@pytest.mark.timeout(240)
def test_a_worker_that_hangs_frees_its_cameras_and_ends_with_its_spool(tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(HANG)
    with ExitStack() as stack:
        porch, yard = stack.enter_context(HttpCamera(moving)), stack.enter_context(HttpCamera(moving))
        ports = {int(camera.place.rpartition(":")[2]) for camera in (porch, yard)}
        cameras = {
            "porch": {"source": porch.url, "event": {"off_delay": "2s"}},
            "yard": {"source": yard.url, "capture": {"isolation": "process"}},
        }
        stage = stack.enter_context(fleet_stage(tmp_path, cameras=0))
        fleet = {**stage.settings["fleet"], "name": "east", "on_quorum_loss": "stop"}
        settings = {**stage.settings, "fleet": fleet, "cameras": cameras, "shutdown_grace": "1s"}
        environment = {"PYTHONPATH": f"{site}{os.pathsep}{ROOT}"}
        worker = stage.workers["east"] = Service(settings, tmp_path / "east", env=environment).start()
        eventually(lambda: ports <= connected_ports(os.getpid()), within_s=60, what="both connections")
        eventually(lambda: stage.world.on("async_motion/town/porch/frame"), within_s=60, what="a frame")
        child = capture_processes(worker.pid)["yard"]
        # The broker answers no more, detection and the reader of one camera hang, the other's process stands
        # still.
        stage.broker.pause()
        (site / "hang").touch()
        eventually(lambda: (site / "decoding").exists() and (site / "detection").exists(), what="the hang")
        os.kill(child, signal.SIGSTOP)
        stage.nats[0].kill()
        began = time.monotonic()
        eventually(
            lambda: not ports & connected_ports(os.getpid()),
            within_s=TTL_S + SLACK_S,
            what="the end of both connections",
        )
        print(f"both cameras were free {time.monotonic() - began:.1f} s after the servers' end")
        assert worker.running, worker.log_text()[-2000:]
        worker.process.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 1
        assert "does not end" in worker.log_text()
        with closing(sqlite3.connect(tmp_path / "east" / "data" / "spool.db")) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
