"""Tests mirror the package: a module's test has its path and name, or stands in a list with its reason."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE, TESTS = ROOT / "async_motion", ROOT / "tests"

VALUES = "values or protocols alone"
WHOLE_FILES = "through whole files, as people write them"
THROUGH = "through its one caller"
COMMAND = "a command: runs as a process"

ELSEWHERE = {
    "app/backup.py": ("integration/test_moving.py", "needs a service that moves"),
    "app/build.py": ("integration/test_main_path.py", "needs a running service"),
    "app/buckets.py": ("acceptance/test_retrieval.py", "needs a store"),
    "app/cameras.py": ("integration/test_cameras.py", "needs running cameras"),
    "app/certificates.py": ("unit/test_tls.py", "the dates are read there"),
    "app/inspect.py": ("unit/spool/test_inspect.py", "names what it imports, and no more"),
    "app/pages.py": ("integration/test_main_path.py", "needs a running service"),
    "app/probe.py": ("integration/test_bad_input.py", "needs cameras, a store and a broker"),
    "app/upkeep.py": ("unit/spool/test_inspect.py", "passes on what is tested there"),
    "broker/connection.py": ("unit/broker/test_client.py", THROUGH),
    "broker/embedded_process.py": ("unit/broker/test_embedded.py", "needs a process"),
    "broker/find.py": ("integration/test_bad_input.py", "needs a service with an embedded broker"),
    "broker/tls.py": ("contract/test_broker.py", "needs a broker with TLS"),
    "camera/spec.py": ("unit/camera/test_unit.py", VALUES),
    "capture/ffmpeg/streams.py": ("integration/test_odd_cameras.py", "needs real streams"),
    "capture/handover.py": ("unit/capture/test_source.py", "both ends of one hand-over"),
    "capture/http/body.py": ("integration/test_odd_cameras.py", "needs FFmpeg as its reader"),
    "capture/spec.py": ("unit/capture/test_address.py", VALUES),
    "capture/worker/child.py": ("integration/test_isolation.py", "needs a process"),
    "capture/worker/parent.py": ("integration/test_isolation.py", "needs a process"),
    "cli/backup.py": ("integration/test_moving.py", COMMAND),
    "cli/check.py": ("integration/test_bad_input.py", COMMAND),
    "cli/delete.py": ("unit/cli/test_get.py", "deletes what is fetched there"),
    "cli/health.py": ("integration/test_liveness.py", COMMAND),
    "cli/lifecycle.py": ("contract/test_lifecycle.py", "needs a store"),
    "cli/log_setup.py": ("unit/test_logs.py", "passes settings on to what is tested there"),
    "cli/loop.py": ("unit/cli/test_listen.py", THROUGH),
    "cli/policy.py": ("unit/app/test_rights.py", THROUGH),
    "cli/run.py": ("integration/test_main_path.py", COMMAND),
    "cli/schema.py": ("unit/cli/test_command_line.py", THROUGH),
    "cli/spool.py": ("integration/test_spool_command.py", COMMAND),
    "cli/tune.py": ("unit/tune/test_tune.py", "passes options on to what is tested there"),
    "client/connect.py": ("acceptance/test_client.py", "needs a store and a broker"),
    "core/items.py": ("unit/spool/test_tables.py", VALUES),
    "core/listing.py": ("contract/test_reader.py", VALUES),
    "core/model.py": ("unit/core/test_payloads.py", VALUES),
    "core/options.py": ("unit/settings/test_settings.py", VALUES),
    "delivery/protocols.py": ("unit/delivery/test_delivery.py", VALUES),
    "errors.py": ("unit/test_edges.py", "each edge raises its own"),
    "home_assistant/entities.py": (
        "unit/home_assistant/test_payloads.py",
        "a table: each entry makes a payload",
    ),
    "retrieval/clips.py": ("unit/retrieval/test_images.py", "both make files of the same frames"),
    "retrieval/days.py": ("unit/retrieval/test_reader.py", THROUGH),
    "retrieval/protocols.py": ("contract/test_reader.py", VALUES),
    "retrieval/rebuild.py": ("unit/cli/test_events.py", THROUGH),
    "retrieval/report.py": ("unit/cli/test_report.py", THROUGH),
    "retrieval/report_page.py": ("unit/cli/test_report.py", THROUGH),
    "retrieval/report_text.py": ("unit/cli/test_report.py", THROUGH),
    "retrieval/report_words.py": ("unit/cli/test_report.py", THROUGH),
    "settings/addresses.py": ("unit/settings/test_settings.py", WHOLE_FILES),
    "settings/document.py": ("unit/settings/test_settings.py", WHOLE_FILES),
    "settings/form.py": ("unit/settings/test_writing.py", "a form is read and written"),
    "settings/places.py": ("unit/settings/test_settings.py", WHOLE_FILES),
    "settings/quantities.py": ("unit/settings/test_settings.py", WHOLE_FILES),
    "settings/s3.py": ("unit/settings/test_settings.py", WHOLE_FILES),
    "settings/shapes.py": ("unit/settings/test_settings.py", WHOLE_FILES),
    "settings/tree.py": ("unit/settings/test_settings.py", WHOLE_FILES),
    "settings/values.py": ("unit/settings/test_settings.py", WHOLE_FILES),
    "spool/stats.py": ("unit/spool/test_spool.py", VALUES),
    "status/camera.py": ("unit/status/test_reporter.py", THROUGH),
    "status/commands.py": ("unit/status/test_reporter.py", THROUGH),
    "store/directory_reader.py": ("contract/test_reader.py", "one contract for both stores"),
    "store/lifecycle.py": ("contract/test_lifecycle.py", "needs a store"),
    "store/minio_reader.py": ("contract/test_reader.py", "one contract for both stores"),
    "tune/clips.py": ("unit/tune/test_tune.py", "needs the clips that are made there"),
    "tune/report.py": ("unit/tune/test_tune.py", "needs the clips that are made there"),
    "tune/trials.py": ("unit/tune/test_tune.py", "needs the clips that are made there"),
    "web/api/api.py": ("unit/web/test_api.py", "a package's tests stand beside the pages'"),
    "web/api/cameras.py": ("unit/web/test_live.py", "over HTTP, as a page asks"),
    "web/api/events.py": ("unit/web/test_events.py", "over HTTP, as a page asks"),
    "web/api/judging.py": ("unit/web/test_settings.py", "beside the detector, and over HTTP"),
    "web/api/models.py": ("unit/web/test_api.py", "held against what is served"),
    "web/api/openapi.py": ("unit/web/test_api.py", "held against what is served"),
    "web/api/routing.py": ("unit/web/test_api.py", "over HTTP, as a page asks"),
    "web/api/settings.py": ("unit/web/test_settings.py", "over HTTP, as a page asks"),
    "web/api/upkeep.py": ("unit/web/test_upkeep.py", "over HTTP, as a page asks"),
    "web/api/writing.py": ("unit/web/test_events.py", "over HTTP, with a client that does not read"),
    "web/archive.py": ("unit/web/test_events.py", VALUES),
    "web/editor.py": ("unit/web/test_settings.py", VALUES),
    "web/event_pages.py": ("unit/web/test_events.py", "over HTTP, as a browser asks"),
    "web/site.py": ("unit/web/test_pages.py", VALUES),
    "web/thumbnails.py": ("unit/web/test_events.py", "over HTTP, as a page asks"),
}
"""Modules without a test of their own: where they are tested, and why there."""


def modules() -> list[str]:
    found = sorted(path for path in PACKAGE.rglob("*.py") if not path.name.startswith("__"))
    return [str(path.relative_to(PACKAGE)) for path in found]


def own_test(module: str) -> Path:
    path = Path(module)
    return TESTS / "unit" / path.parent / f"test_{path.name}"


@pytest.mark.parametrize("module", modules())
def test_a_module_has_a_test_of_its_own_or_a_reason(module: str) -> None:
    if module in ELSEWHERE:
        assert not own_test(module).exists(), f"{module} has its own test now: remove it from ELSEWHERE"
        assert (TESTS / ELSEWHERE[module][0]).exists()
    else:
        assert own_test(module).exists(), f"{module}: no {own_test(module).relative_to(ROOT)}"


def test_the_list_names_modules_that_are_there() -> None:
    assert ELSEWHERE.keys() <= set(modules())


PICTURE_CONTRACTS = {"picture", "get_picture"}
"""`picture` is a key of the API's `Camera`, and `get_picture` its operation `getPicture`."""


def test_a_picture_is_an_image_a_frame_a_plane_or_a_jpeg() -> None:
    """The glossary has a word for each, so no name in the code says `picture`."""
    found: dict[str, set[str]] = {}
    for path in [*PACKAGE.rglob("*.py"), *TESTS.rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
            for field in ("id", "attr", "arg", "name", "asname"):
                name = getattr(node, field, None)
                if isinstance(name, str) and "picture" in name.lower():
                    found.setdefault(name, set()).add(str(path.relative_to(ROOT)))
    this_test = {"PICTURE_CONTRACTS", "test_a_picture_is_an_image_a_frame_a_plane_or_a_jpeg"}
    assert {name: found[name] for name in found.keys() - this_test - PICTURE_CONTRACTS} == {}
    assert {path for name in PICTURE_CONTRACTS for path in found[name]} == {
        "async_motion/web/api/cameras.py", "async_motion/web/api/models.py"
    }  # fmt: skip


MODEL = frozenset({"Frame", "FrameInfo", "MotionEvent", "Record", "StoredFrame"})


def test_frames_events_and_records_are_made_by_the_kit_alone() -> None:
    """A field added to one of them changes one maker: `tests/support/{frames,records}.py`."""
    found = set()
    for path in TESTS.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        imported = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module == "async_motion.core.model"
            for alias in node.names
        }
        called = {
            node.func.id
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        if MODEL & imported & called:
            found.add(str(path.relative_to(TESTS)))
    assert found == {"support/frames.py", "support/records.py"}
