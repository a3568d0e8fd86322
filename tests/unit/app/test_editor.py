"""Settings of a running service, changed from the page: each change applies as a whole or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from async_motion.app.editor import FileEditor, SettingsFile
from async_motion.app.reload import Plan
from async_motion.errors import SettingsConflict, SettingsError, StoreUnavailable
from async_motion.settings import Settings, writing
from async_motion.web.editor import Edit

TEXT = """\
# porch and yard
mqtt: {host: broker, username: edge, password: broker-secret}
cameras:
  porch:
    source: rtsp://user:cam-secret@cam/stream  # the entrance
    detect: {sensitivity: low}
"""
PORCH = ("cameras", "porch", "detect", "sensitivity")


class Bench:
    """A `FileEditor` on a file, and the settings that it has applied."""

    def __init__(self, folder: Path, env: dict[str, str] | None = None) -> None:
        self.path = folder / "variables.yaml"
        self.path.write_text(TEXT)
        self.applied: list[tuple[Settings, Plan]] = []
        self.begun: asyncio.Event | None = None
        self.hold: asyncio.Event | None = None
        self.error: Exception | None = None
        file = SettingsFile(config=self.path, env=env or {})
        self.refusal: SettingsError | None = None
        self.editor = FileEditor(file, file.load(), self._apply, refusal=lambda: self.refusal)

    async def _apply(self, settings: Settings, plan: Plan) -> None:
        if self.begun is not None and self.hold is not None:
            self.begun.set()
            await self.hold.wait()
        if self.error is not None:
            raise self.error
        self.applied.append((settings, plan))

    async def save(self, value: Any, *, dry_run: bool = False) -> Any:
        version = (await self.editor.current()).version
        return await self.editor.save(version, [Edit(place=PORCH, value=value)], dry_run=dry_run)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@asynccontextmanager
async def editing(folder: Path) -> AsyncIterator[Bench]:
    """Run an editor."""
    bench = Bench(folder)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(bench.editor.run())
        yield bench
        running.cancel()


async def test_a_change_is_written_and_put_in_force(tmp_path: Path) -> None:
    async with editing(tmp_path) as bench:
        outcome = await bench.save("high")
        assert outcome.done == ["porch: changed in place"]
        assert outcome.problems == []
        text = bench.path.read_text()
        assert "sensitivity: high" in text
        assert "# the entrance" in text
        ((settings, _),) = bench.applied
        assert settings.cameras["porch"].detect.sensitivity == "high"
        assert bench.editor.settings is settings


async def test_shapes_that_were_changed_by_hand_and_not_read_again_are_told(tmp_path: Path) -> None:
    mask = "masks: [[[0, 0], [1, 0], [1, 0.2]]]"
    async with editing(tmp_path) as bench:
        assert (await bench.editor.current()).unread == frozenset()
        for other in ("sensitivity: high", "sensitivity: low, fps: 2", "min_area: 0.2%, zones: {}"):
            bench.path.write_text(TEXT.replace("sensitivity: low", other))
            assert (await bench.editor.current()).unread == frozenset(), "the page shows no such key"
        for shape in (mask, "horizon: 20%", "min_area: 3%", "min_area_far: 0.01%", "zones: nonsense"):
            bench.path.write_text(TEXT.replace("sensitivity: low", shape))
            assert (await bench.editor.current()).unread == {"porch"}, shape
        bench.path.write_text(TEXT.replace("sensitivity: low", mask))
        await bench.editor.reload()
        assert (await bench.editor.current()).unread == frozenset()


async def test_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    async with editing(tmp_path) as bench:
        assert (await bench.save("high", dry_run=True)).done == ["porch: changed in place"]
        assert bench.path.read_text() == TEXT
        assert bench.applied == []


async def test_a_wrong_value_changes_nothing(tmp_path: Path) -> None:
    async with editing(tmp_path) as bench:
        with pytest.raises(SettingsError, match="sensitivity"):
            await bench.save("extreme")
        assert bench.path.read_text() == TEXT
        assert bench.applied == []


async def test_a_file_that_has_changed_since_is_not_overwritten(tmp_path: Path) -> None:
    async with editing(tmp_path) as bench:
        version = (await bench.editor.current()).version
        bench.path.write_text(TEXT.replace("low", "medium"))
        with pytest.raises(SettingsConflict):
            await bench.editor.save(version, [Edit(place=PORCH, value="high")], dry_run=False)
        assert "medium" in bench.path.read_text()


async def test_of_two_editors_the_second_is_refused_and_a_saved_one_goes_on(tmp_path: Path) -> None:
    async with editing(tmp_path) as bench:
        version = (await bench.editor.current()).version
        first = await bench.editor.save(version, [Edit(place=PORCH, value="high")], dry_run=False)
        with pytest.raises(SettingsConflict):
            await bench.editor.save(version, [Edit(place=PORCH, value="medium")], dry_run=False)
        assert first.version == (await bench.editor.current()).version
        await bench.editor.save(first.version, [Edit(place=PORCH, value="low")], dry_run=False)
        assert bench.editor.settings.cameras["porch"].detect.sensitivity == "low"


async def test_a_change_that_cannot_be_applied_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    async with editing(tmp_path) as bench:
        bench.error = StoreUnavailable("the store does not answer")
        with pytest.raises(SettingsError, match="the store does not answer"):
            await bench.save("high")
        assert bench.path.read_text() == TEXT
        current = await bench.editor.current()
        assert current.problem is None
        assert bench.editor.settings.cameras["porch"].detect.sensitivity == "low"
        bench.error = None
        assert (await bench.save("high")).done == ["porch: changed in place"]


async def test_a_change_that_is_refused_writes_nothing(tmp_path: Path) -> None:
    async with editing(tmp_path) as bench:
        await bench.save("high")
        before = contents(tmp_path)
        bench.refusal = SettingsConflict("the service is stopping")
        with pytest.raises(SettingsConflict, match="is stopping"):
            await bench.save("medium")
        bench.refusal, bench.error = None, StoreUnavailable("the store does not answer")
        with pytest.raises(SettingsError, match="does not answer"):
            await bench.save("medium")
        kept = {"variables.yaml.bak": before["variables.yaml"]}
        assert contents(tmp_path) == before | kept, "what cannot be applied is no backup"


async def test_a_bug_in_a_change_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.error = RuntimeError("a bug")
    running = asyncio.create_task(bench.editor.run())
    with pytest.raises(SettingsError):
        await bench.save("high")
    with pytest.raises(RuntimeError, match="a bug"):
        await running
    assert bench.path.read_text() == TEXT


async def test_a_file_that_cannot_be_written_back_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(path: Path, content: bytes, **how: Any) -> None:
        if content == TEXT.encode():
            raise SettingsError(f"{path}: cannot be written (No space left on device)")
        writing.write(path, content, **how)

    monkeypatch.setattr("async_motion.app.editor.write", write)
    async with editing(tmp_path) as bench:
        bench.error = StoreUnavailable("the store does not answer")
        with pytest.raises(SettingsError, match=r"(?s)does not answer.*holds the change.*No space left"):
            await bench.save("high")
        assert "does not answer" in ((await bench.editor.current()).problem or "")


async def test_a_reload_that_fails_is_told_until_one_succeeds(tmp_path: Path) -> None:
    async with editing(tmp_path) as bench:
        bench.path.write_text(TEXT.replace("low", "extreme"))
        assert len((await bench.editor.reload()).problems) == 1
        assert bench.applied == []
        assert "sensitivity" in ((await bench.editor.current()).problem or "")
        bench.path.write_text(TEXT)
        assert (await bench.editor.reload()).problems == []
        assert (await bench.editor.current()).problem is None


async def test_secrets_are_not_shown(tmp_path: Path) -> None:
    current = await Bench(tmp_path, {"ASYNC_MOTION__MQTT__PORT": "8883"}).editor.current()
    assert current.secrets["mqtt.password"] == ""
    assert not [text for text in ("broker-secret", "cam-secret") if text in str(current)]
    assert current.values["cameras.porch.detect.sensitivity"] == "low"
    assert current.environment == {"mqtt.port": "ASYNC_MOTION__MQTT__PORT"}


async def test_a_change_goes_on_though_its_request_is_cancelled(tmp_path: Path) -> None:
    async with editing(tmp_path) as bench:
        bench.begun, bench.hold = asyncio.Event(), asyncio.Event()
        request = asyncio.create_task(bench.save("high"))
        await bench.begun.wait()
        request.cancel()
        await asyncio.wait([request])
        following = asyncio.create_task(bench.editor.reload())
        await asyncio.sleep(0)
        bench.hold.set()
        assert (await following).done == ["nothing has changed"], "the change before it is in force"
        assert [settings.cameras["porch"].detect.sensitivity for settings, _ in bench.applied] == ["high"]


async def test_changes_wait_for_the_editor_and_are_refused_after_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    early = asyncio.create_task(bench.editor.reload())
    running = asyncio.create_task(bench.editor.run())
    assert (await early).done == ["nothing has changed"]
    bench.begun, bench.hold = asyncio.Event(), asyncio.Event()
    requests = [asyncio.create_task(bench.save("high"))]
    await bench.begun.wait()
    requests.append(asyncio.create_task(bench.editor.reload()))
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait([running])
    requests.append(asyncio.create_task(bench.editor.reload()))
    for request in requests:
        with pytest.raises(SettingsError, match="the service is stopping"):
            await request
