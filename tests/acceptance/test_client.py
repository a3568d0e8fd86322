"""The examples of the client's document, run as written over a directory of events."""

from __future__ import annotations

import http.server
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.bucket import INSTANCE, MadeEvent, fill, make_event
from tests.support.readme import ROOT, blocks
from tests.support.service import clean_environment
from tests.support.still import walking_square
from tests.support.wait import eventually

DOCUMENT = ROOT / "async_motion" / "client" / "README.md"
EXAMPLES = [block for block in blocks(DOCUMENT, "python") if "import" in block]
NOW = datetime.now(UTC)


def example(word: str) -> str:
    (found,) = [block for block in EXAMPLES if word in block]
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data" / "objects" / INSTANCE).mkdir(parents=True)
    return tmp_path


@pytest.fixture
def received() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """A server that accepts POSTs: its URL, and the requests received."""
    got: list[tuple[str, bytes]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((self.headers["Title"], self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/motion", got
        server.shutdown()


def start(code: str, folder: Path, **environment: str) -> subprocess.Popen[str]:
    path = environment.pop("PYTHONPATH", "")
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=folder,
        env=clean_environment(PYTHONPATH=f"{path}:{ROOT}", **environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def stored(folder: Path, jpegs: list[bytes], no: int) -> MadeEvent:
    made = make_event(at=datetime.now(UTC), jpegs=jpegs, no=no, size=(640, 360))
    fill(folder / "data" / "objects", made)
    return made


def storing(
    folder: Path, jpegs: list[bytes], done: Callable[[], bool], made: list[MadeEvent]
) -> Callable[[], bool]:
    """Return a condition that stores an event every 3 s until `done`."""
    stored_at = [float("-inf")]

    def check() -> bool:
        if time.monotonic() - stored_at[0] > 3 and not done():
            stored_at[0] = time.monotonic()
            made.append(stored(folder, jpegs, len(made) + 1))
        return done()

    return check


def ended(process: subprocess.Popen[str]) -> str:
    process.kill()
    return process.communicate(timeout=30)[1]


def test_a_notification_has_the_best_frame(
    folder: Path, received: tuple[str, list[tuple[str, bytes]]]
) -> None:
    url, got = received
    process = start(example("NTFY_URL"), folder, NTFY_URL=url)
    try:
        eventually(lambda: (folder / "data").exists() and process.poll() is None, within_s=30, what="a start")
        jpegs = walking_square(3)[0]
        # The subscription begins when the program starts: store events until it sees one.
        eventually(storing(folder, jpegs, lambda: bool(got), []), within_s=60, what="a notification")
    finally:
        error = ended(process)
    assert not error
    title, attachment = got[0]
    assert (title, attachment) == ("Motion at porch, 3%", jpegs[2])


@pytest.fixture(scope="session")
def opencv4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an OpenCV that has the HOG detector."""
    target = tmp_path_factory.mktemp("opencv4")
    command = ["uv", "pip", "install", "-q", "--python", sys.executable, "--target", str(target)]
    try:
        done = subprocess.run([*command, "opencv-python-headless<5"], check=False, timeout=300)
    except FileNotFoundError:
        pytest.skip("uv is not installed")
    if done.returncode:
        pytest.skip("opencv-python-headless<5 cannot be installed")
    return target


@pytest.mark.timeout(400)
def test_each_frame_is_looked_at(folder: Path, opencv4: Path) -> None:
    code = example("HOGDescriptor")
    # The detections depend on the image; that it looked at every frame does not.
    code = code.replace("if len(people):", "if True:").replace("max(weights)", "max([0, *weights])")
    process = start(code, folder, PYTHONPATH=str(opencv4))
    assert process.stdout is not None
    lines: list[str] = []
    threading.Thread(target=lambda: lines.extend(iter(process.stdout.readline, "")), daemon=True).start()  # type: ignore[union-attr]
    made: list[MadeEvent] = []
    try:
        looked = storing(folder, walking_square(3)[0], lambda: len(lines) >= 3, made)
        eventually(looked, within_s=90, what="three frames to be looked at")
    finally:
        error = ended(process)
    assert not error
    ids = {frame.frame_id for event in made for frame in event.frames}
    assert {line.split()[0] for line in lines} <= ids
    assert len({line.split()[0] for line in lines}) == len(lines)


@pytest.mark.parametrize("library", ["polars", "duckdb"])
def test_a_month_as_a_table(folder: Path, library: str) -> None:
    events = [
        make_event(camera=camera, at=datetime(2026, 11, day, 12, tzinfo=UTC), no=day, frames=2, salt=salt)
        for salt, camera in enumerate(("porch", "yard"))
        for day in (1, 2, 30)
    ]
    other = make_event(at=datetime(2026, 10, 31, 12, tzinfo=UTC), no=1)
    fill(folder / "data" / "objects", *events, index=[*events, other])
    process = start(example(f"import {library}"), folder)
    out, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    rows = [line for line in out.splitlines() if "porch" in line or "yard" in line]
    assert len(rows) == 2
    assert all(" 3 " in row for row in rows)
