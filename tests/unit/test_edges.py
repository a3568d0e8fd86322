"""What comes from outside is read at an edge, and each edge has one family of errors."""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from async_motion.errors import SettingsError
from async_motion.settings import load, shipped
from tests.support.edges import EDGES, read_at

REFERENCE = shipped().read_text(encoding="utf-8")

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
    b"a: 2026-13-45",
    b"a: !!bool x",
    b'a: !!int ""',
    b"a: !!timestamp x",
    b"a: &a {b: *a}",
    b"a0: &a0 {}\n"
    + b"".join(b"a%d: &a%d {<<: [*a%d, *a%d]}\n" % (n, n, n - 1, n - 1) for n in range(1, 60)),
    b'{"taken_at": "0001-01-01T00:00:00Z", "source": ""}\nPK',
    b"Sun, 29 Nov 2026 13:00:00 +99999999",
    b"Fri, 31 Dec 9999 23:59:59 -2359",
    b'<?xml version="1.0" encoding="klingon"?><Error><Code>SlowDown</Code></Error>',
    b"<Error>" + b"<a>" * 20_000,
    "\u30e1\u30f3\u30c6\u30ca\u30f3\u30b9".encode("shift_jis"),
)

ANYTHING = st.binary(max_size=300) | st.text(max_size=100).map(lambda text: text.encode(errors="replace"))
PIECES = st.sampled_from(
    [
        b"",
        b"\x00",
        b"\xff",
        b"-1",
        b"1e999",
        b"NaN",
        b"null",
        b"[]",
        b"{}",
        b'"\\ud800"',
        b"9" * 400,
        b'"',
        b"&a ",
    ]
)


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Draw bytes that differ from `whole` in one or two places, or end early."""
    data = whole
    for _ in range(draw(st.integers(1, 2))):
        begin = draw(st.integers(0, len(data)))
        data = data[:begin] + draw(PIECES) + data[begin + draw(st.integers(0, 12)) :]
    return data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data


@pytest.mark.parametrize("edge", EDGES)
def test_what_is_in_order_is_read(edge: str) -> None:
    # Otherwise the tests below would pass with a reader that reads nothing.
    assert read_at(EDGES[edge], EDGES[edge].accepted)


@pytest.mark.parametrize("edge", EDGES)
def test_what_is_hostile_raises_what_its_edge_names(edge: str) -> None:
    for data in HOSTILE:
        read_at(EDGES[edge], data)


@pytest.mark.parametrize("edge", EDGES)
@given(data=ANYTHING)
def test_whatever_comes_raises_what_its_edge_names(edge: str, data: bytes) -> None:
    read_at(EDGES[edge], data)


@pytest.mark.parametrize("edge", EDGES)
@given(data=st.data())
def test_what_is_damaged_raises_what_its_edge_names(edge: str, data: st.DataObject) -> None:
    read_at(EDGES[edge], data.draw(damaged(EDGES[edge].accepted)))


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
