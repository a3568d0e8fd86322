"""What comes from outside is read at an edge, and each edge has one family of errors."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from async_motion.core import commands, names, payloads, strict_json
from async_motion.errors import SettingsError
from async_motion.home_assistant import places
from async_motion.settings import load, shipped

NOW = datetime(2026, 11, 22, tzinfo=UTC)
REFERENCE = shipped().read_text(encoding="utf-8")


class NoError(Exception):
    """The error of an edge that raises none: nothing raises it."""


Edge = tuple[Callable[[bytes], object], type[Exception]]
"""A reader, and the one error that it raises; `NoError` for none."""

EDGES: dict[str, Edge] = {
    "a command": (lambda data: commands.parse("threshold", data), ValueError),
    "JSON": (strict_json.parse, ValueError),
    "an announcement": (payloads.parse_frame, ValueError),
    "a retained device": (places.read_config, NoError),
    "remembered places": (lambda data: places.read_places({places.PLACES_KEY: data}), NoError),
    "what was missed": (lambda data: places.read_missed({places.MISSED_KEY: data}, NOW), NoError),
    "an address": (lambda data: names.redact_url(data.decode("latin-1")), NoError),
}

HOSTILE = (
    b"",
    b"\x00",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"a":' * 5_000,
    b"NaN",
    b"1e999",
    b"9" * 10_000,
    b'"\\ud800"',
    b'{"places": [{"base": "\\ud800"}]}',
    b"rtsp://[",
    b"http://a:b@[::1]:99999/",
    b"\xe2\x80\xa8" * 99,
)

ANYTHING = st.binary(max_size=300) | st.text(max_size=100).map(lambda text: text.encode(errors="replace"))


def read_at(edge: Edge, data: bytes) -> None:
    """Read `data`; only the error of the edge may come of it."""
    read, error = edge
    with suppress(error):
        read(data)


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("data", HOSTILE, ids=range(len(HOSTILE)))
def test_what_is_hostile_raises_what_its_edge_names(edge: str, data: bytes) -> None:
    read_at(EDGES[edge], data)


@pytest.mark.parametrize("edge", EDGES)
@given(data=ANYTHING)
def test_whatever_comes_raises_what_its_edge_names(edge: str, data: bytes) -> None:
    read_at(EDGES[edge], data)


# ---- settings ----

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
TREES: Any = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
SECTIONS = st.sampled_from(
    ["instance", "log", "minio", "mqtt", "spool", "web", "location", "cameras", "directory", "shutdown_grace"]
)
TEXT = st.text(st.characters(exclude_characters="\0"), max_size=30)
VARIABLES = st.sampled_from(
    [
        "ASYNC_MOTION__MQTT__PORT",
        "ASYNC_MOTION__CAMERAS",
        "ASYNC_MOTION__CAMERAS__PORCH__SOURCE",
        "ASYNC_MOTION__MINIO__SECRET_KEY_FILE",
        "ASYNC_MOTION__SPOOL__MAX_BYTES",
        "ASYNC_MOTION____",
        "ASYNC_MOTION__CAMERAS__A__DETECT__ZONES",
        "MINIO_SECRET_KEY_FILE",
    ]
)
PATIENT = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)


def read(folder: Path, content: bytes, env: dict[str, str]) -> None:
    path = folder / "v.yaml"
    path.write_bytes(content)
    with suppress(SettingsError):
        load(path, env)


@PATIENT
@given(content=st.binary(max_size=200))
@example(content=b"[" * 3000)
@example(content=b"a:\n" + b"".join(b" " * n + b"b:\n" for n in range(1, 900)))
@example(content=b"&a [*a]")
@example(content=b"a: &a {b: *a}")
@example(content=b"\xef\xbb\xbfinstance: a")
@example(content=b"instance: !!python/object/apply:os.system ['true']")
@example(content=b"? [a, b]\n: c")
@example(content=b"instance: 2026-13-45")
@example(content=b"spool: {max_age: .inf}")
@example(content=b"cameras: {a: {source: usb:0, detect: {masks: [[[.nan, 0], [1, 0], [1, 1]]]}}}")
@example(content=b"mqtt: {port: 0x" + b"f" * 400 + b"}")
@example(content=b"shutdown_grace: 1e400s")
def test_no_bytes_of_a_settings_file_raise_anything_else(tmp_path: Path, content: bytes) -> None:
    read(tmp_path, content, {})


@PATIENT
@given(tree=st.dictionaries(SECTIONS, TREES, max_size=4))
def test_no_tree_of_settings_raises_anything_else(tmp_path: Path, tree: dict[str, Any]) -> None:
    read(tmp_path, yaml.safe_dump(tree, allow_unicode=True).encode(errors="replace"), {})


@PATIENT
@given(seed=st.integers(0, 2**32))
def test_no_damage_to_the_reference_raises_anything_else(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    lines = REFERENCE.splitlines()
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(lines))
        lines[at] = rng.choice(
            [lines[at].lstrip("# "), lines[at][::-1], "", lines[at] * 2, lines[at].replace(":", ": [", 1)]
        )
    read(tmp_path, "\n".join(lines).encode(), {})


@PATIENT
@given(
    env=st.dictionaries(VARIABLES, st.text(st.characters(exclude_characters="\0"), max_size=30), max_size=3)
)
@example(env={"ASYNC_MOTION__CAMERAS": "[" * 3000})
@example(env={"ASYNC_MOTION__CAMERAS__A__DETECT__ZONES": "{a: " * 2000})
def test_no_environment_raises_anything_else(tmp_path: Path, env: dict[str, str]) -> None:
    read(tmp_path, b"instance: edge1\n", env)
