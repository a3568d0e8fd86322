"""Records set aside and logged warnings, on the page and through the API; for admins only."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection

from async_motion import logs
from async_motion.errors import SpoolError
from async_motion.web.upkeep import LogLine, SetAside
from tests.unit.web.kit import TOKEN, VIEWER, Stage, bearer, get, serving
from tests.unit.web.test_pages import Texts

EVIL = "<img src=x onerror=alert(1)>"


class FakeUpkeep:
    """A spool with two records set aside."""

    def __init__(self) -> None:
        self.retried: list[Collection[int] | None] = []
        self.error: SpoolError | None = None

    async def set_aside(self) -> list[SetAside]:
        if self.error is not None:
            raise self.error
        return [
            SetAside(
                number=number,
                camera="porch",
                event_id="e",
                captured_at="2026-11-22T07:31:12Z",
                object_key="k",
                size=83_211,
                reason=f"refused: {EVIL}",
            )
            for number in (7, 8)
        ]

    async def read_jpeg(self, number: int) -> bytes | None:
        return b"jpeg" if number == 7 else None

    async def retry(self, numbers: Collection[int] | None) -> int:
        self.retried.append(numbers)
        return 2 if numbers is None else len(numbers)

    def warnings(self) -> list[LogLine]:
        return [LogLine(at="2026-11-22T07:31:12.000000Z", level="warning", logger="a", text=f"said {EVIL}")]


def staged() -> tuple[Stage, FakeUpkeep]:
    stage = Stage(spool={"records": 0, "bytes": 0, "set_aside": 2, "problem": None})
    upkeep = FakeUpkeep()
    stage.upkeep = upkeep
    return stage, upkeep


async def test_what_was_set_aside_is_shown_and_tries_again() -> None:
    stage, upkeep = staged()
    async with serving(stage) as session:
        shown = json.loads((await get(session, "/api/v1/spool/aside"))[1])
        assert [frame["number"] for frame in shown["frames"]] == [7, 8]
        assert await get(session, "/api/v1/spool/aside/7") == (200, "jpeg")
        for wrong in ("8", "x", "\u0663", "1" * 40):
            assert (await get(session, f"/api/v1/spool/aside/{wrong}"))[0] == 404
        async with session.post("/api/v1/spool/retry", json={"numbers": [7]}) as answer:
            assert await answer.json() == {"count": 1}
        async with session.post("/api/v1/spool/retry", json={}) as answer:
            assert await answer.json() == {"count": 2}
        assert upkeep.retried == [[7], None]


async def test_the_page_shows_reasons_and_warnings_as_text() -> None:
    stage, _ = staged()
    async with serving(stage) as session:
        page = Texts((await get(session, "/health"))[1])
        assert f"refused: {EVIL}" in page.text
        assert f"said {EVIL}" in page.text
        assert "api/v1/spool/aside/7" in page.addresses


async def test_a_viewer_reads_neither_the_log_nor_the_leftovers() -> None:
    stage, _ = staged()
    async with serving(stage, token=TOKEN, viewer_token=VIEWER) as session:
        for path in ("/api/v1/log", "/api/v1/spool/aside", "/api/v1/spool/aside/7"):
            assert (await get(session, path, **bearer(VIEWER)))[0] == 403
            assert (await get(session, path, **bearer(TOKEN)))[0] == 200
        assert "said" not in Texts((await get(session, "/health", **bearer(VIEWER)))[1]).text


async def test_a_spool_that_cannot_be_read_is_reported() -> None:
    stage, upkeep = staged()
    upkeep.error = SpoolError("the disk does not answer")
    async with serving(stage) as session:
        assert (await get(session, "/api/v1/spool/aside"))[0] == 503
        status, text = await get(session, "/health")
        assert status == 200
        assert "the disk does not answer" in Texts(text).text


def test_the_last_warnings_are_kept_masked_and_bounded() -> None:
    kept = logs.RecentWarnings(5)
    mask = logs.Mask(["hunter22"])
    kept.addFilter(mask.arguments)
    log = logging.getLogger("async_motion.test_recent")
    log.addHandler(kept)
    try:
        log.info("not a warning")
        for number in range(9):
            log.warning("number %d with %s", number, "hunter22")
    finally:
        log.removeHandler(kept)
    assert len(kept.lines) == 5
    assert kept.lines[-1][1:] == ("warning", "async_motion.test_recent", "number 8 with ***")
