"""Arguments and exit codes; a traceback never reaches a user."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jsonschema
import pytest

from async_motion.cli import run
from async_motion.cli.command_line import OPENCV_PACKAGES, main
from async_motion.cli.schema import NAMES
from tests.support.service import ROOT, clean_environment


def test_schema_prints_each_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    all_of_them = json.loads(capsys.readouterr().out)
    assert [s["$id"] for s in all_of_them] == [f"urn:async_motion:{name}:1" for name in NAMES]
    for schema in all_of_them:
        jsonschema.Draft202012Validator.check_schema(schema)


def test_schema_prints_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "event"]) == 0
    assert json.loads(capsys.readouterr().out)["$id"] == "urn:async_motion:event:1"


HEAVY = ("aiohttp", "aiomqtt", "av", "cv2", "jinja2", "miniopy_async", "numpy", "rich", "structlog")
"""Packages whose import takes longer than reading an index."""

_IMPORTED = f"""
import contextlib, sys
from async_motion.cli.command_line import main
with contextlib.suppress(SystemExit):
    main(sys.argv[1:])
print([name for name in {HEAVY} if name in sys.modules])
"""


@pytest.mark.parametrize(
    "argv", [["--help"], ["events", "--since", "2h"], ["get", "--since", "2h"], ["delete", "--to", "30d"]]
)
def test_a_command_imports_only_what_it_needs(argv: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _IMPORTED, *argv],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("argv", [["schema"], ["schema", "frame"]], ids=["at once", "at the end"])
def test_a_full_disk_is_one_line_and_not_success(argv: list[str], tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "async_motion", *argv],
            cwd=tmp_path, env=clean_environment(), stdout=full, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    assert done.stderr == "async-motion: No space left on device\n"
    assert done.returncode == 1


def test_a_full_disk_under_another_file_keeps_the_output() -> None:
    code = (
        "import errno, sys; from async_motion.cli import main, schema\n"
        "def fail(args): print('kept'); raise OSError(errno.ENOSPC, 'No space left', '/data/x')\n"
        "schema.main = fail; sys.exit(main(['schema']))"
    )
    buffered = clean_environment(PYTHONUNBUFFERED="")
    done = subprocess.run([sys.executable, "-c", code], env=buffered, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "kept\n")
    assert done.stderr == "async-motion: /data/x: No space left\n"


@pytest.mark.parametrize("argv", [["schema", "event"], ["--help"]])
def test_a_standard_output_that_is_closed_is_no_error(argv: list[str]) -> None:
    command = ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-X", "dev", "-m", "async_motion", *argv]
    done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_terminal_that_is_not_utf_8_shows_escapes() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from async_motion.cli import main; main(['schema', 'event']); print('▁')"],
        env=clean_environment() | {"PYTHONIOENCODING": "ascii"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.endswith("\\u2581\n")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["listen", "--count", "x"], "--count: x: expected a number, 1 or more"),
        (["tune", "--miss-cost", "much", "x.mp4"], "--miss-cost: much: expected a number above 0"),
    ],
)
def test_an_option_that_is_no_number_is_told_in_our_words(
    argv: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(argv)
    assert words in capsys.readouterr().err


def test_a_camera_to_listen_to_is_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["listen", "--camera", "#"]) == 2
    assert "--camera: #: expected a name" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [[], ["dance"], ["listen", "--count", "0"], ["listen", "--count", "x"]])
def test_wrong_usage_exits_with_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2
    assert "usage: async-motion" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["run", "check", "listen"])
def test_wrong_settings_exit_with_2_and_one_line_each(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "v.yaml"
    file.write_text("minio:\n  bukket: motion\nspool: {max_age: soon}\n")
    assert main([command, "--config", str(file)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"{file}:2: minio.bukket: ")
    assert "bucket" in lines[0]
    assert lines[1].startswith(f"{file}:3: spool.max_age: ")


def test_a_missing_file_exits_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--config", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml" in capsys.readouterr().err


def test_check_says_what_it_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "v.yaml"
    file.write_text("instance: edge1\ncameras: {porch: {source: 'rtsp://me:hunter2@192.0.2.1/x'}}\n")
    assert main(["check", "--config", str(file)]) == 0
    said = capsys.readouterr()
    assert "porch" in said.out
    assert "hunter2" not in said.out + said.err


def with_a_cv2_that_raises(error: str, command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "fakes").mkdir()
    (folder / "fakes/cv2.py").write_text(f"raise {error}\n")
    (folder / "v.yaml").write_text("instance: edge1\n")
    return subprocess.run(
        [sys.executable, "-m", "async_motion", command, "--config", "v.yaml"],
        cwd=folder, env=clean_environment(PYTHONPATH=f"{folder / 'fakes'}:{ROOT}"),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("command", ["run", "check", "listen"])
def test_a_library_that_opencv_lacks_is_one_line(command: str, tmp_path: Path) -> None:
    error = "ImportError('libGL.so.1: cannot open shared object file: No such file or directory')"
    answer = with_a_cv2_that_raises(error, command, tmp_path)
    assert (answer.returncode, answer.stdout) == (1, "")
    (line,) = answer.stderr.splitlines()
    assert "libGL.so.1" in line
    assert "OpenCV" in line
    assert f"apt-get install {OPENCV_PACKAGES} " in line


def test_a_library_that_something_else_lacks_is_one_line(tmp_path: Path) -> None:
    error = "ImportError('libodd.so.7: cannot open shared object file: No such file or directory')"
    answer = with_a_cv2_that_raises(error, "check", tmp_path)
    assert answer.returncode == 1
    (line,) = answer.stderr.splitlines()
    assert "libodd.so.7" in line
    assert "apt-get" not in line


def test_an_import_that_fails_for_another_reason_is_a_bug_and_shown_as_one(tmp_path: Path) -> None:
    answer = with_a_cv2_that_raises("ImportError('no such name')", "check", tmp_path)
    assert answer.returncode == 1
    assert "Traceback" in answer.stderr


@pytest.fixture
def hang_up() -> Iterator[None]:
    """Restore what SIGHUP does."""
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hang_up")
def test_a_reload_while_the_service_starts_does_not_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[object] = []

    def started(_args: object) -> int:
        found.append(signal.getsignal(signal.SIGHUP))
        return 0

    monkeypatch.setattr(run, "main", started)
    assert main(["run"]) == 0
    assert found == [signal.SIG_IGN]
    with ThreadPoolExecutor(1) as other:  # Python allows no signal handler there
        assert other.submit(main, ["run"]).result() == 0
