"""The settings: their sources, what is refused, and the words of each problem."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as runs
from hypothesis import strategies as st
from pydantic import SecretStr

from async_motion.core import names
from async_motion.core.events.selection import Keep
from async_motion.errors import SettingsError
from async_motion.settings import (
    CameraSettings,
    Confirm,
    Frames,
    Section,
    Settings,
    ZoneSettings,
    find,
    load,
    load_text,
    shipped,
)

REFERENCE = Path(__file__).parents[3] / "config/processor/variables.yaml"
PORCH = "ASYNC_MOTION__CAMERAS__PORCH__"
DEMO = {f"{PORCH}SOURCE": "demo:"}
"""A camera on which tests set camera keys."""


FLEET = "fleet: {servers: ['nats://nats1:4222']}\n"


@pytest.fixture(autouse=True)
def _bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "settings.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def read(tmp_path: Path, text: str, env: Mapping[str, str] | None = None) -> Settings:
    return load(written(tmp_path, text), env or {})


def refused(tmp_path: Path, text: str, env: Mapping[str, str] | None = None) -> list[str]:
    """Return the problems, with the file's path shortened to its name."""
    path = written(tmp_path, text)
    with pytest.raises(SettingsError) as caught:
        load(path, env or {})
    return [problem.replace(str(path), path.name) for problem in caught.value.problems]


def variable(place: tuple[str, ...]) -> str:
    return "ASYNC_MOTION__" + "__".join(place).upper()


# ---- the shipped file is the reference ----


def example() -> str:
    """Return the reference with its example camera uncommented."""
    head, mark, camera = REFERENCE.read_text(encoding="utf-8").partition("\ncameras:\n")
    lines = camera.splitlines()
    assert all(line.startswith("# ") for line in lines), "the example is one block of comment to its end"
    return head + mark + "\n".join(line.removeprefix("# ") for line in lines)


def leaves(section: Section, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, Section):
            yield from leaves(value, (*place, name))
        elif isinstance(value, Mapping):
            for key, item in value.items():
                yield from leaves(item, (*place, name, key))
        else:
            yield (*place, name), value


def places(data: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the places of the values in plain data, as the model sees them."""
    if isinstance(data, dict) and place[-1:] != ("frames",):
        for key, value in data.items():
            yield from places(value, (*place, key))
    else:
        yield place


def test_the_reference_holds_the_defaults() -> None:
    assert load(REFERENCE, {}).model_dump() == Settings().model_dump()


def test_the_reference_names_every_key_with_its_default(tmp_path: Path) -> None:
    settings = read(tmp_path, example())
    camera = settings.cameras["porch"]
    default = CameraSettings(source=camera.source, name="Front porch")
    zone = ZoneSettings(polygon=camera.detect.zones["drive"].polygon)
    expected = default.model_copy(
        update={"detect": default.detect.model_copy(update={"zones": {"drive": zone}})}
    )
    assert camera == expected

    described = set(places(yaml.safe_load(example())))
    assert {place for place, _ in leaves(settings)} == described


def ranges() -> list[Any]:
    """Return (variable, min, max) of each range that a comment of the reference states."""
    text = example()
    found = []
    place: list[str] = []
    for line in text.splitlines():
        if not (key := re.match(r"( *)(\w+):", line)):
            continue
        place[len(key[1]) // 2 :] = [key[2]]
        comment = line.partition("#")[2]
        if (
            bounds := re.search(r"([\d.]+\w*%?)\.\.([\d.]+\w*%?)(?!\w)", comment)
        ) and "{every" not in comment:
            found.append(pytest.param(variable(tuple(place)), bounds[1], bounds[2], id=".".join(place)))
    return found


def beyond(bound: str, factor: float) -> str | None:
    match = re.fullmatch(r"([\d.]+)(.*)", bound)
    assert match
    number = float(match[1])
    if number == 0:
        return None
    whole = match[2] == "" and float(match[1]).is_integer()
    moved = (number + (1 if factor > 1 else -1)) if whole else number * factor
    return f"{moved:g}{match[2]}" if moved < 1e5 else f"{moved:.0f}{match[2]}"


@pytest.mark.parametrize(("name", "least", "most"), ranges())
def test_the_ranges_in_the_reference_are_those_that_hold(name: str, least: str, most: str) -> None:
    env = DEMO | {"MINIO_ACCESS_KEY": "a"}
    for inside in (least, most):
        load(None, env | {name: inside})
    for outside in (beyond(least, 0.99), beyond(most, 1.01)):
        if outside is not None:
            with pytest.raises(SettingsError, match="out of range"):
                load(None, env | {name: outside})


def test_every_bounded_setting_states_its_range() -> None:
    # A setting that is added without its range makes this test fail.
    stated = {str(item.values[0]) for item in ranges()}
    free = {"MINIO__CONCURRENCY", "MQTT__PORT", "WEB__PORT"}
    assert {f"ASYNC_MOTION__{name}" for name in free} <= stated
    numbers = {
        variable(place)
        for place, value in leaves(load(None, DEMO))
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    shares = {f"{PORCH}DETECT__MIN_AREA", f"{PORCH}DETECT__MAX_AREA"}
    assert numbers - stated - shares == set()


# ---- where the settings come from ----


def test_the_order_in_which_a_file_is_looked_for(tmp_path: Path) -> None:
    named, by_variable = tmp_path / "a.yaml", tmp_path / "b.yaml"
    env = {"ASYNC_MOTION_CONFIG": str(by_variable)}
    assert find(None, {}) == shipped()
    here = Path("config/processor/variables.yaml")
    here.parent.mkdir(parents=True)
    here.write_text("instance: here")
    assert find(None, {}) == here
    assert find(None, {"ASYNC_MOTION_CONFIG": ""}) == here
    assert find(None, env) == by_variable
    assert find(named, env) == named
    assert load(None, {}).instance == "here"


def test_the_copy_that_ships_is_the_reference_with_defaults() -> None:
    assert shipped().read_text() == REFERENCE.read_text(), (
        f"after a change of the reference: cp {REFERENCE} {shipped()}"
    )


def test_without_a_file_all_is_embedded() -> None:
    settings = load(None, {})
    assert settings.minio.endpoint is None
    assert settings.mqtt.host is None
    assert list(settings.cameras) == ["demo"]
    assert settings.cameras["demo"].source.get_secret_value() == "demo:"
    assert settings.instance == names.slug(socket.gethostname())


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "cameras:\nminio:\n", "cameras: {}\nspool: {max_age: }\n", "---\n"]
)
def test_blank_means_the_default(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text).model_dump() == Settings().model_dump()


def test_a_disabled_camera_is_not_replaced_by_the_demonstration(tmp_path: Path) -> None:
    settings = read(tmp_path, 'cameras: {porch: {source: "demo:", enabled: false}}')
    assert list(settings.cameras) == ["porch"]


def test_the_origin_names_the_file_and_the_variables_but_no_value(tmp_path: Path) -> None:
    settings = read(
        tmp_path, "instance: a", {"MINIO_SECRET_KEY": "s3cret-value", "ASYNC_MOTION__WEB__PORT": "80"}
    )
    expected = (
        f"{tmp_path}/settings.yaml, with ASYNC_MOTION__WEB__PORT, MINIO_SECRET_KEY from the environment"
    )
    assert settings.origin == expected
    assert read(tmp_path, "").origin == f"{tmp_path}/settings.yaml"


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(None, {}).minio.bucket = "other"


# ---- the environment ----


def test_every_kind_of_value_can_come_from_the_environment(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        "minio: {bucket: from-file, region: eu-central-1}",
        {
            "ASYNC_MOTION__INSTANCE": "edge1",
            "ASYNC_MOTION__MINIO__BUCKET": "from-env",
            "ASYNC_MOTION__MINIO__SECURE": "yes",
            "ASYNC_MOTION__MINIO__TIMEOUT__PUT": "20s",
            "ASYNC_MOTION__MINIO__SECRET_KEY": "0123456789",
            "ASYNC_MOTION__MQTT__PROTOCOL": "3.1.1",
            "ASYNC_MOTION__SPOOL__MAX_BYTES": "1GB",
            "ASYNC_MOTION__SPOOL__BACKLOG_SHARE": "0.25",
            f"{PORCH}SOURCE": "rtsp://192.0.2.1/x",
            f"{PORCH}DETECT__FPS": "2.5",
            f"{PORCH}DETECT__MASKS": "[[[0, 0], [1, 0], [1, 0.1]]]",
            f"{PORCH}DETECT__ZONES__DRIVE__POLYGON": "[[0, 0], [1, 0], [1, 1]]",
            f"{PORCH}EVENT__FRAMES": "{every: 2s}",
            f"{PORCH}EVENT__CONFIRM": "3/5",
            "ASYNC_MOTION__CAMERAS__YARD": '{"source": "usb:1", "enabled": false}',
            "UNRELATED": "x",
        },
    )
    assert settings.instance == "edge1"
    assert (settings.minio.bucket, settings.minio.region, settings.minio.secure) == (
        "from-env",
        "eu-central-1",
        True,
    )
    assert settings.minio.timeout.put == 20.0
    assert settings.minio.secret_key == SecretStr("0123456789")
    assert settings.mqtt.protocol == "3.1.1"
    assert (settings.spool.max_bytes, settings.spool.backlog_share) == (10**9, 0.25)
    porch = settings.cameras["porch"]
    assert porch.detect.fps == 2.5
    assert porch.detect.masks == (((0.0, 0.0), (1.0, 0.0), (1.0, 0.1)),)
    assert porch.detect.zones["drive"].polygon[2] == (1.0, 1.0)
    assert (porch.event.frames, porch.event.confirm) == (Frames(Keep.EVERY, 2.0), Confirm(3, 5))
    assert settings.cameras["yard"].enabled is False


def test_a_section_from_the_environment_can_be_refined_by_longer_names() -> None:
    settings = load(
        None, {"ASYNC_MOTION__CAMERAS": "{a: {source: usb:1}}", "ASYNC_MOTION__CAMERAS__A__NAME": "Yard"}
    )
    assert settings.cameras["a"].name == "Yard"
    assert settings.cameras["a"].source.get_secret_value() == "usb:1"


def test_a_variable_reaches_a_camera_with_a_hyphen_in_its_name(tmp_path: Path) -> None:
    env = {"ASYNC_MOTION__CAMERAS__FRONT_DOOR__DETECT__FPS": "3"}
    settings = read(tmp_path, "cameras: {front-door: {source: usb:0}}", env)
    assert list(settings.cameras) == ["front-door"]
    assert settings.cameras["front-door"].detect.fps == 3


def test_an_empty_variable_means_the_default(tmp_path: Path) -> None:
    env = {"ASYNC_MOTION__MINIO__BUCKET": "", "ASYNC_MOTION__MQTT__HOST": "", "MINIO_SECRET_KEY": ""}
    settings = read(tmp_path, "minio: {bucket: other, secret_key: kept}\nmqtt: {host: broker}", env)
    assert settings.minio.bucket == "motion"
    assert settings.mqtt.host is None
    assert settings.minio.secret_key == SecretStr("kept")


def test_the_uploaders_credentials_win_by_being_nearer(tmp_path: Path) -> None:
    text = "minio: {access_key: file, secret_key: file}"
    minio = {"MINIO_ACCESS_KEY": "minio", "MINIO_SECRET_KEY": "minio"}
    own = {"ASYNC_MOTION__MINIO__SECRET_KEY": "own"}

    def keys(env: Mapping[str, str]) -> tuple[str | None, str]:
        found = read(tmp_path, text, env).minio
        assert found.secret_key is not None
        return found.access_key, found.secret_key.get_secret_value()

    assert keys({}) == ("file", "file")
    assert keys(minio) == ("minio", "minio")
    assert keys(minio | own) == ("minio", "own")


@pytest.mark.parametrize(
    ("name", "get"),
    [
        ("MINIO_SECRET_KEY_FILE", lambda s: s.minio.secret_key.get_secret_value()),
        ("MINIO_ACCESS_KEY_FILE", lambda s: s.minio.access_key),
        ("ASYNC_MOTION__MINIO__SECRET_KEY_FILE", lambda s: s.minio.secret_key.get_secret_value()),
        ("ASYNC_MOTION__MINIO__SESSION_TOKEN_FILE", lambda s: s.minio.session_token.get_secret_value()),
        ("ASYNC_MOTION__MQTT__PASSWORD_FILE", lambda s: s.mqtt.password.get_secret_value()),
        ("ASYNC_MOTION__WEB__TOKEN_FILE", lambda s: s.web.token.get_secret_value()),
        (f"{PORCH}SOURCE_FILE", lambda s: s.cameras["porch"].source.get_secret_value()),
    ],
)
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_secret_can_come_from_a_file(tmp_path: Path, name: str, get: Any, end: str) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"/from a file " + end.encode() if "SOURCE" not in name else b"/a/file" + end.encode())
    settings = load(None, {name: str(secret), "ASYNC_MOTION__MQTT__USERNAME": "u"})
    # Only the final line break is stripped: a space may belong to the secret.
    assert get(settings) == ("/a/file" if "SOURCE" in name else "/from a file ")


def test_a_key_that_ends_in_file_is_not_a_secrets_file(tmp_path: Path) -> None:
    env = {"ASYNC_MOTION__MINIO__CA_FILE": "/not/there.pem", "ASYNC_MOTION__MINIO__SECURE": "true"}
    assert read(tmp_path, "", env).minio.ca_file == Path("/not/there.pem")


@pytest.mark.parametrize("name", ["MINIO_SECRET_KEY", "ASYNC_MOTION__MINIO__SECRET_KEY"])
def test_a_secret_and_its_file_are_not_both_taken(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text("b")
    problems = refused(tmp_path, "", {name: "a", f"{name}_FILE": str(tmp_path / "secret")})
    assert problems == [f"{name}_FILE: minio.secret_key: {name} is set too, expected one of the two"]


def test_a_secrets_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    name = "ASYNC_MOTION__MINIO__SECRET_KEY_FILE"
    assert refused(tmp_path, "", {name: "/not/there"}) == [
        (
            f"{name}: minio.secret_key: cannot read /not/there (No such file or directory), "
            "expected a file with the value"
        )
    ]
    large, binary = tmp_path / "large", tmp_path / "binary"
    large.write_bytes(b"x" * 100_000)
    binary.write_bytes(b"\xff\xfe\x00")
    assert "longer than 64 KiB" in refused(tmp_path, "", {name: str(large)})[0]
    assert "not UTF-8 text" in refused(tmp_path, "", {name: str(binary)})[0]
    assert "Is a directory" in refused(tmp_path, "", {name: str(tmp_path)})[0]


@pytest.mark.parametrize(
    ("env", "problem"),
    [
        (
            {"ASYNC_MOTION__MINIO__BUKET": "x"},
            "ASYNC_MOTION__MINIO__BUKET: minio.buket: unknown key, expected bucket?",
        ),
        (
            {"ASYNC_MOTION__WEB__PORT": "http"},
            (
                "ASYNC_MOTION__WEB__PORT: web.port: 'http' is not a whole number, "
                "expected a whole number from 1 to 65535"
            ),
        ),
        (
            {f"{PORCH}NAME": "Porch"},
            f"{PORCH}NAME: cameras.porch: `source` is missing, expected `source: …`",
        ),
        (
            {"ASYNC_MOTION__CAMERAS": "{a: {source: 'rtsp://u:pass@h/'"},
            "ASYNC_MOTION__CAMERAS: cameras: cannot be read, expected YAML or JSON",
        ),
        (
            {"ASYNC_MOTION__MINIO": "5"},
            "ASYNC_MOTION__MINIO: minio: 5, expected a section with keys of its own",
        ),
        (
            {"ASYNC_MOTION__CAMERAS": "{{", "ASYNC_MOTION__CAMERAS__A__SOURCE": "usb:0"},
            "ASYNC_MOTION__CAMERAS: cameras: cannot be read, expected YAML or JSON",
        ),
        ({"ASYNC_MOTION__INSTANCE__X": "a"}, "ASYNC_MOTION__INSTANCE__X: instance: not text"),
    ],
)
def test_a_wrong_variable_is_named(tmp_path: Path, env: Mapping[str, str], problem: str) -> None:
    assert any(line.startswith(problem) for line in refused(tmp_path, "", env)), refused(tmp_path, "", env)


# ---- values as people write them ----


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25), ("10s", 10), ("10 s", 10), ("1.5s", 1.5), ("5min", 300), ("5m", 300), ("1h", 3600),
        ("1h30min", 5400), ("1h 30min", 5400), ("0", 0), ("0s", 0), ("'10s'", 10),
    ],
)  # fmt: skip
def test_durations(tmp_path: Path, text: str, seconds: float) -> None:
    settings = read(tmp_path, f"cameras: {{a: {{source: usb:0, event: {{cool_down: {text}}}}}}}")
    assert settings.cameras["a"].event.cool_down == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["10", "10.5", "true", "s", "10 parsecs", "-5s", "1s1", "[1s]", ".nan", "10s s", "''"]
)
def test_wrong_durations(tmp_path: Path, text: str) -> None:
    (problem,) = refused(tmp_path, f"cameras: {{a: {{source: usb:0, event: {{cool_down: {text}}}}}}}")
    assert problem.startswith("settings.yaml:1: cameras.a.event.cool_down: ")
    assert problem.endswith(
        "expected a duration from 0s to 24h with its unit (ms, s, min, h, d), such as 10s"
    )


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2GiB", 2 << 30),
        ("500MB", 500_000_000),
        ("1.5 GiB", 3 << 29),
        ("2097152", 2097152),
        ("2000kB", 2_000_000),
    ],
)
def test_sizes(tmp_path: Path, text: str, size: int) -> None:
    assert read(tmp_path, f"spool: {{max_bytes: {text}}}").spool.max_bytes == size


@pytest.mark.parametrize("text", ["2G", "lots", "1", "true", ".inf", "-1GiB"])
def test_wrong_sizes(tmp_path: Path, text: str) -> None:
    (problem,) = refused(tmp_path, f"spool: {{max_bytes: {text}}}")
    assert problem.startswith("settings.yaml:1: spool.max_bytes: ")
    assert problem.endswith("expected a size from 1MiB to 1000TiB, such as 500MB or 2GiB")


@pytest.mark.parametrize(
    ("text", "share"), [("0.2%", 0.002), ("0.002", 0.002), ("10 %", 0.1), ("0", 0), ("'1%'", 0.01)]
)
def test_shares(tmp_path: Path, text: str, share: float) -> None:
    settings = read(tmp_path, f"cameras: {{a: {{source: usb:0, detect: {{min_area: {text}}}}}}}")
    assert settings.cameras["a"].detect.min_area == pytest.approx(share)


@pytest.mark.parametrize("text", ["2", "200%", "-1%", "some", "'%'", "true", ".nan", "nan%"])
def test_wrong_shares(tmp_path: Path, text: str) -> None:
    (problem,) = refused(tmp_path, f"cameras: {{a: {{source: usb:0, detect: {{min_area: {text}}}}}}}")
    assert problem.startswith("settings.yaml:1: cameras.a.detect.min_area: ")
    assert problem.endswith("expected a share from 0% to 100%, such as 0.2% or 0.002")


@pytest.mark.parametrize(
    ("text", "frames"),
    [
        ("all", Frames(Keep.ALL)), ("first", Frames(Keep.FIRST)), ("best", Frames(Keep.BEST)),
        ("{every: 500ms}", Frames(Keep.EVERY, 0.5)),
    ],
)  # fmt: skip
def test_frames(tmp_path: Path, text: str, frames: Frames) -> None:
    settings = read(tmp_path, f"cameras: {{a: {{source: usb:0, event: {{frames: {text}}}}}}}")
    assert settings.cameras["a"].event.frames == frames


@pytest.mark.parametrize(
    "text", ["some", "{each: 1s}", "{every: 1s, first: 1}", "1s", "{every: 1}", "{every: }", "[all]"]
)
def test_wrong_frames_values(tmp_path: Path, text: str) -> None:
    (problem,) = refused(tmp_path, f"cameras: {{a: {{source: usb:0, event: {{frames: {text}}}}}}}")
    assert problem.startswith("settings.yaml:1: cameras.a.event.frames: ")


@pytest.mark.parametrize("text", ["3/2", "0/3", "2", "2/31", "two/three", "[2, 3]"])
def test_wrong_confirm_values(tmp_path: Path, text: str) -> None:
    (problem,) = refused(tmp_path, f"cameras: {{a: {{source: usb:0, event: {{confirm: {text}}}}}}}")
    assert problem.endswith("expected M/N with 1 <= M <= N <= 30, such as 2/3")


@pytest.mark.parametrize("text", ["none", "sse-s3", "sse-kms:arn:aws:kms:eu-central-1:1:key/2"])
def test_encryption(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, f"minio: {{encryption: '{text}'}}").minio.encryption == text


@pytest.mark.parametrize(("text", "style"), [("auto", "auto"), ("true", True), ("false", False)])
def test_path_style(tmp_path: Path, text: str, style: object) -> None:
    assert read(tmp_path, f"minio: {{path_style: {text}}}").minio.path_style == style


@pytest.mark.parametrize(("text", "protocol"), [("5", "5"), ("3.1.1", "3.1.1"), ("'5'", "5")])
def test_protocol(tmp_path: Path, text: str, protocol: str) -> None:
    assert read(tmp_path, f"mqtt: {{protocol: {text}}}").mqtt.protocol == protocol


@pytest.mark.parametrize(
    "source",
    [
        "rtsp://user:p%40ss@192.0.2.10:554/stream?channel=1", "rtsps://cam.example/x", "http://[2001:db8::1]/mjpeg",
        "rtsp://192.0.2.10:554/user=a&password=b@c", "rtsp://cam.example/a@b", "rtsp://u:p@cam.example:554/a@b",
        "https://cam/video", "usb:0", "/dev/video0", "clips/a video.mp4", "/srv/stills", "demo:", "demo:7",
        "RTSP://cam/x", "../up.mkv",
    ],
)  # fmt: skip
def test_sources(tmp_path: Path, source: str) -> None:
    settings = read(tmp_path, yaml.safe_dump({"cameras": {"a": {"source": source, "record_source": source}}}))
    assert settings.cameras["a"].source.get_secret_value() == source


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("rtmp://u:hunter22@h/x", "an unknown kind of address"),
        ("file:///etc/hunter22", "an unknown kind of address"),
        ("rtsp:/hunter22", "the // after the scheme is missing"),
        ("rtsp://u:hunter22#x@h/", "cannot be read as an address"),
        ("rtsp://u:hunter22@h:99999/", "cannot be read as an address"),
        ("rtsp://admin:22/hunter22@h/s", "cannot be read as an address"),
        ("http://admin:22?hunter22@h/s", "in the password write"),
        ("http://admin:22#hunter22@h/s", "in the password write"),
        ("rtsp://u:hunter22@/x", "cannot be read as an address"),
        ("rtsp://u:hunter22@[h/x", "cannot be read as an address"),
        ("http://h/hunter22 b", "cannot be read as an address"),
        ("usb:hunter22", "not the number of a USB camera"),
        (" hunter22", "begins or ends with a space"),
        ("", "empty, expected rtsp://"),
        ("hunter22" * 100, "too long for a path"),
        ("hunter22/" * 1000, "too long for a path"),
        (0, "a number, expected text; for a USB camera write usb:"),
        (["hunter22"], "not text"),
        ("a\nhunter22", "control character"),
    ],
)
def test_wrong_sources(tmp_path: Path, source: object, problem: str) -> None:
    (line,) = refused(tmp_path, yaml.safe_dump({"cameras": {"a": {"source": source}}}))
    assert problem in line
    assert "hunter22" not in line


# ---- what is refused, and in which words ----


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("minio:\n  endpont: x", "settings.yaml:2: minio.endpont: unknown key, expected endpoint?"),
        ("mino: {}", "mino: unknown key, expected minio?"),
        ("zzz: 1", "zzz: unknown key, expected one of instance, shutdown_grace, log, "),
        (
            "\n\nmqtt:\n  port: '1883'",
            "settings.yaml:4: mqtt.port: '1883' is not a whole number, expected a whole number from 1 to",
        ),
        ("mqtt: {port: 0}", "mqtt.port: 0 is out of range, expected a whole number from 1 to 65535"),
        ("mqtt: {port: 1.5}", "mqtt.port: 1.5 is not a whole number"),
        (f"mqtt: {{port: {10**400}}}", "mqtt.port: 1000000000000"),
        ("mqtt: {port: true}", "mqtt.port: true is not a whole number"),
        ("mqtt: {keepalive: 30}", "mqtt.keepalive: 30 has no unit, expected a duration from 5s to 18h"),
        ("mqtt: []", "mqtt: a list, expected a section with keys of its own"),
        ("mqtt: {protocol: 3}", "mqtt.protocol: 3 is not known, expected 5 or 3.1.1"),
        ("mqtt: {base_topic: 'a/+/b'}", "mqtt.base_topic: 'a/+/b' holds a wildcard (+ or #)"),
        ("mqtt: {base_topic: /a}", "mqtt.base_topic: '/a' has an empty level"),
        ("mqtt: {base_topic: $SYS}", "mqtt.base_topic: '$SYS' has an empty level or begins with $"),
        ("mqtt: {discovery: {prefix: 'a#'}}", "mqtt.discovery.prefix: 'a#' holds a wildcard"),
        ("mqtt: {frigate_topic: 'a/'}", "mqtt.frigate_topic: 'a/' has an empty level"),
        ("mqtt: {host: 'mqtt://b'}", "mqtt.host: an address with a scheme, expected a host name"),
        ("mqtt: {host: 'b:1883'}", "mqtt.host: a host with a port, expected a host name"),
        ("mqtt: {host: 300.1.1.1}", "mqtt.host: not a host"),
        ("mqtt: {host: 'a b'}", "mqtt.host: not a host"),
        ("mqtt: {password: 12345678}", "mqtt.password: not text, expected text: put it in quotes"),
        ("mqtt: {username: no}", "mqtt.username: not text, expected text: put it in quotes"),
        (
            "minio: {endpoint: 'http://localhost:9000'}",
            (
                "minio.endpoint: an address with a scheme, expected host or host:port alone, such as "
                "localhost:9000; `minio.secure: false` says whether TLS is used"
            ),
        ),
        ("minio: {endpoint: 'https://s3'}", "minio.endpoint: an address with a scheme, expected"),
        ("minio: {endpoint: 's3/motion'}", "minio.endpoint: an address with a path, expected host"),
        ("minio: {endpoint: 'u@s3'}", "minio.endpoint: an address with a login, expected host"),
        ("minio: {endpoint: 's3:99999'}", "minio.endpoint: port 99999 is out of range"),
        ("minio: {public_endpoint: 's3.example'}", "minio.public_endpoint: an address without http://"),
        ("minio: {public_endpoint: 'https://u@s3'}", "minio.public_endpoint: an address with a login"),
        ("minio: {public_endpoint: 'https://s3/x'}", "minio.public_endpoint: 'https://s3/x' is not such an"),
        ("minio: {endpoint: ':9000'}", "minio.endpoint: ':9000' is not an address"),
        ("minio: {presign: 8d}", "minio.presign: '8d' is out of range, expected a duration from 1s to 7d"),
        ("minio: {bucket: My_Bucket}", "minio.bucket: 'My_Bucket' is not a bucket's name"),
        ("minio: {bucket: 10.0.0.1}", "minio.bucket: '10.0.0.1' is not a bucket's name"),
        ("minio: {prefix: ../x}", "minio.prefix: '../x' is not a prefix"),
        ("minio: {prefix: /x}", "minio.prefix: '/x' is not a prefix"),
        ("minio: {region: a b}", "minio.region: 'a b' is not a region"),
        (
            "minio: {encryption: 'sse-kms:'}",
            "minio.encryption: 'sse-kms:' is not known, expected none, sse-s3",
        ),
        ("minio: {secure: 'yes'}", "minio.secure: 'yes' is neither, expected true or false"),
        ("minio: {secure: 1}", "minio.secure: 1 is neither, expected true or false"),
        ("minio: {path_style: yep}", "minio.path_style: 'yep' is not known, expected auto, true or false"),
        (
            "minio: {credentials: aws-iam}",
            "minio.credentials: 'aws-iam' is not known, expected one of static, env, aws",
        ),
        ("instance: My Host", "instance: not a name, expected 1 to 64 of a-z, 0-9, _ and -"),
        ("spool: {path: ''}", "spool.path: empty, expected a path"),
        ("cameras: [a]", "cameras: not a section"),
        ("cameras: {a: usb:0}", "cameras.a: 'usb:0', expected a section with keys of its own"),
        ("cameras: {a: }", "cameras.a: `source` is missing, expected `source: …`"),
        ("cameras: {a/b: {source: usb:0}}", "cameras.a/b: not a name, expected 1 to 64 of a-z"),
        ("cameras: {Porch: {source: usb:0}}", "cameras.Porch: not a name"),
        ("cameras: {status: {source: usb:0}}", "cameras.status: a reserved word"),
        ("cameras: {state: {source: usb:0}}", "cameras.state: a reserved word"),
        ("cameras: {on: {source: 0}}", "cameras.on.source: a number, expected text; for a USB camera"),
        (
            "cameras: {a: {source: usb:0, detect: {noise_factor: 11}}}",
            "cameras.a.detect.noise_factor: 11 is out of range, expected a number from 0 to 10 times",
        ),
        (
            "cameras: {a: {source: usb:0, detect: {strong_share: 0%}}}",
            "cameras.a.detect.strong_share: '0%' is out of range, expected a share from 1% to 100%",
        ),
        (
            "cameras: {a: {source: usb:0, detect: {unrest_factor: 0.5}}}",
            "cameras.a.detect.unrest_factor: 0.5 is out of range, expected a number from 1 to 100 times",
        ),
        (
            "cameras: {a: {source: usb:0, detect: {learning: 10min}}}",
            "cameras.a.detect.learning: '10min' is out of range, expected a duration from 0s to 5min",
        ),
        (
            "cameras: {a: {source: usb:0, detect: {rest: 1s}}}",
            "cameras.a.detect.rest: '1s' is out of range, expected a duration from 2s to 1h",
        ),
        (
            "cameras: {a: {source: usb:0, detect: {horizon: 95%}}}",
            "cameras.a.detect.horizon: '95%' is out of range, expected a share from 0% to 90%",
        ),
        (
            "cameras: {a: {source: usb:0, detect: {strong: 50%}}}",
            "cameras.a.detect.strong: unknown key, expected strong_share?",
        ),
        (
            "cameras: {a: {source: usb:0, detect: {fps: 0}}}",
            "cameras.a.detect.fps: 0 is out of range, expected a number from 0.1 to 60 frames a second",
        ),
        (
            "fleet: {servers: nats://nats1:4222}",
            "fleet.servers: 'nats://nats1:4222', expected a list of NATS servers",
        ),
        (
            "fleet: {servers: ['http://nats1:4222']}",
            "fleet.servers: 'http://nats1:4222' has another scheme than nats:// and tls://",
        ),
        (
            "fleet: {servers: ['nats://me:secret@nats1:4222']}",
            "fleet.servers: an address with a login, expected a list of NATS servers",
        ),
        (
            "fleet: {capacity: 0}",
            "fleet.capacity: 0 is out of range, expected auto or a number of cores from 0.1 to 1024",
        ),
        (
            "fleet: {on_quorum_loss: pray}",
            "fleet.on_quorum_loss: 'pray' is not known, expected one of keep, stop",
        ),
        (
            "location: {latitude: 90.1, longitude: 0}",
            "location.latitude: 90.1 is out of range, expected a number from -90 to 90 degrees",
        ),
        (
            "location: {latitude: 0, longitude: -181}",
            "location.longitude: -181 is out of range, expected a number from -180 to 180 degrees",
        ),
        (
            "cameras: {a: {source: usb:0, profiles: {switch: moon}}}",
            "cameras.a.profiles.switch: 'moon' is not known, expected one of manual, sun, picture",
        ),
        (
            (
                "cameras:\n  a:\n    source: usb:0\n    detect:\n      zones:\n        x:\n"
                "          polygon: [[0, 0], [1, 1]]"
            ),
            "settings.yaml:7: cameras.a.detect.zones.x.polygon: 2 points, expected three or more points",
        ),
        (
            "cameras: {a: {source: usb:0, detect: {zones: {x: {polygon: [[0, 0], [2, 0], [1, 1]]}}}}}",
            "cameras.a.detect.zones.x.polygon: the point [2, 0] lies outside the image",
        ),
        (
            "cameras: {a: {source: usb:0, detect: {zones: {x: {polygon: [[0, 0], [0.5, 0.5], [1, 1]]}}}}}",
            "cameras.a.detect.zones.x.polygon: all points lie on one line",
        ),
        (
            "cameras: {a: {source: usb:0, detect: {zones: {X: {polygon: [[0, 0], [1, 0], [1, 1]]}}}}}",
            "cameras.a.detect.zones.X: not a name",
        ),
        ("cameras: {a: {source: usb:0, detect: {masks: [1]}}}", "cameras.a.detect.masks: 1, expected"),
        (
            "cameras: {a: {source: usb:0, detect: {masks: [[1, 2, 3]]}}}",
            "cameras.a.detect.masks: 1 is not a point",
        ),
        ("cameras: {a: {source: usb:0, detect: {zones: 5}}}", "cameras.a.detect.zones: not a section"),
        ("cameras: {a: {source: usb:0, detect: {masks: 5}}}", "cameras.a.detect.masks: 5, expected a list"),
        ('cameras: {a: {source: usb:0, name: "a\\nb"}}', "cameras.a.name: holds a control character"),
        ('cameras: {a: {source: usb:0, name: "a\\x85b"}}', "cameras.a.name: holds a control character"),
        ('cameras: {a: {source: usb:0, name: "a\\u2028b"}}', "cameras.a.name: holds a control character"),
        (
            'cameras: {a: {source: usb:0, name: "a\\ud800b"}}',
            "cameras.a.name: holds half of a surrogate pair",
        ),
        (
            "web: {host: 0.0.0.0}",
            "web.host: '0.0.0.0' can be reached from other machines, expected `web.token`",
        ),
    ],
)
def test_what_is_wrong_is_reported(tmp_path: Path, text: str, problem: str) -> None:
    (line,) = refused(tmp_path, text)
    assert line.startswith(problem if problem.startswith("settings.yaml:") else f"settings.yaml:1: {problem}")


def test_all_problems_are_reported_at_once_in_the_order_of_the_lines(tmp_path: Path) -> None:
    text = "web: {port: 0}\nminio: {secure: 1}\nminoi: {}\nminio: {}\nmqtt: {port: 0}\n"
    lines = refused(tmp_path, text, {"ASYNC_MOTION__SPOOL__MAX_AGE": "soon"})
    assert [line.split(": ")[0] for line in lines] == [
        "settings.yaml:1",
        "settings.yaml:2",
        "settings.yaml:3",
        "settings.yaml:4",
        "settings.yaml:5",
        "ASYNC_MOTION__SPOOL__MAX_AGE",
    ]
    assert lines[3] == "settings.yaml:4: minio: given twice, expected once (first in line 2)"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [1\nb: 2\n", "settings.yaml:2: broken YAML: "),
        (
            "minio:\n\tendpoint: x\n",
            "settings.yaml:2: broken YAML: found character '\\t' that cannot start any token",
        ),
        ("a: 1\n---\nb: 2\n", "settings.yaml:2: broken YAML: "),
        ("mqtt: {password: *hunter22}\n", "settings.yaml:1: broken YAML: found undefined alias …"),
        (
            "mqtt: {password: !hunter22 x}\n",
            "settings.yaml:1: broken YAML: could not determine a constructor for the tag …",
        ),
        ("- a\n- b\n", "settings.yaml:1: a list, expected keys such as `minio:` and `cameras:`"),
        ("hello\n", "settings.yaml:1: 'hello', expected keys such as `minio:` and `cameras:`"),
        (
            "minio: &m\n  bucket: *m\n",
            "settings.yaml:2: minio.bucket: an alias that contains itself, expected a value",
        ),
        ("minio: {<<: [1]}\n", "settings.yaml:1: minio: `<<` needs a section, expected `<<: *anchor`"),
        ("? [a]\n: b\n", "settings.yaml:1: settings: a key that is not text, expected `key: value`"),
        (
            "instance: 2026-13-45\n",
            "settings.yaml:1: instance: cannot be read, expected text: put it in quotes",
        ),
    ],
)
def test_broken_yaml_is_located_and_not_quoted(tmp_path: Path, text: str, problem: str) -> None:
    lines = refused(tmp_path, text)
    assert any(line.startswith(problem) for line in lines), lines
    assert "hunter22" not in "\n".join(lines)


def test_a_list_that_holds_itself(tmp_path: Path) -> None:
    lines = refused(tmp_path, "cameras: {a: {source: usb:0, detect: {masks: &m [*m]}}}")
    assert any("an alias that contains itself" in line for line in lines)


@pytest.mark.parametrize(
    "nine",
    [
        lambda name: f"[{', '.join([name] * 9)}]",
        lambda name: f"{{{', '.join(f'k{number}: {name}' for number in range(9))}}}",
        lambda name: f"{{<<: [{', '.join([name] * 9)}]}}",
    ],
)
def test_aliases_that_multiply_are_refused(tmp_path: Path, nine: Callable[[str], str]) -> None:
    lines = ["a0: &a0 {k: v}"]
    lines += [f"a{level}: &a{level} {nine(f'*a{level - 1}')}" for level in range(1, 12)]
    (line,) = refused(tmp_path, "\n".join(lines) + "\ncameras: *a11\n")
    assert "more than 200000 values with all aliases" in line


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    (line,) = refused(tmp_path, "# " + "x" * 4 * 1024 * 1024)
    assert line == "settings.yaml: larger than 4 MiB, expected a settings file"


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_bytes(b"instance: a\nminio: {bucket: \xff\xfe}\n")
    with pytest.raises(SettingsError, match=r"settings\.yaml:2: broken YAML: .*expected UTF-8 text"):
        load(path, {})


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path / "none.yaml", {})
    assert (
        str(caught.value)
        == f"{tmp_path}/none.yaml: cannot be read (No such file or directory), expected a settings file"
    )
    with pytest.raises(SettingsError, match="Is a directory"):
        load(None, {"ASYNC_MOTION_CONFIG": str(tmp_path)})


def test_anchors_and_merges_spare_repetition(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        "cameras:\n"
        "  a: &cam\n    source: usb:0\n    detect: {fps: 2, sensitivity: high}\n"
        "    jpeg: &jpeg {quality: 70}\n"
        "  b:\n    <<: *cam\n    source: usb:1\n"
        "  c:\n    <<: [*cam, {name: C}]\n    jpeg: {<<: *jpeg, max_width: 640}\n",
    )
    a, b, c = (settings.cameras[name] for name in "abc")
    assert b == a.model_copy(update={"source": SecretStr("usb:1")})
    assert (c.name, c.jpeg.quality, c.jpeg.max_width, c.detect.fps) == ("C", 70, 640, 2)


def test_what_a_section_sets_beside_a_merge_has_its_own_line(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as failed:
        read(
            tmp_path,
            "cameras:\n  a: &a\n    source: usb:0\n    detect:\n      fps: 5\n      masks: [[[0, 0]]]\n"
            "  b:\n    <<: *a\n    detect:\n      masks: []\n      fps: 999\n",
        )
    assert [problem.rpartition(".yaml:")[2].split(": ")[:2] for problem in failed.value.problems] == [
        ["6", "cameras.a.detect.masks"],
        ["11", "cameras.b.detect.fps"],
    ]


# ---- settings that depend on each other ----


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("minio: {endpoint: s3, access_key: }", "minio.access_key: blank though `endpoint` is set"),
        ("minio: {endpoint: s3, secret_key: ''}", "minio.secret_key: blank though `endpoint` is set"),
        ("minio: {ca_file: ca.pem}", "minio.ca_file: set though TLS is off"),
        ("mqtt: {tls: {ca_file: ca.pem}}", "mqtt.tls.ca_file: set though TLS is off"),
        (
            "mqtt: {tls: {enabled: true, cert_file: c.pem}}",
            "mqtt.tls.cert_file: set alone, expected `key_file`",
        ),
        (
            "mqtt: {tls: {enabled: true, key_file: c.pem}}",
            "mqtt.tls.key_file: set alone, expected `cert_file`",
        ),
        ("mqtt: {password: x}", "mqtt.password: set alone, expected `username`"),
        (
            "instance: i\nmqtt: {frigate_topic: async_motion/i}",
            "mqtt.frigate_topic: is this instance's own topic",
        ),
        ("web: {host: edge1.example}", "web.host: 'edge1.example' can be reached from other machines"),
        (
            "cameras: {a: {source: usb:0, detect: {min_area_far: 1%}}}",
            "cameras.a.detect.min_area_far: more than `min_area`, expected a smaller share",
        ),
        (
            "cameras: {a: {source: usb:0, detect: {min_area: 95%}}}",
            "cameras.a.detect.min_area: not below `max_area`",
        ),
        (
            "cameras: {a: {source: usb:0, detect: {zones: {z: {polygon: [[0,0],[1,0],[1,1]],min_area: 1}}}}}",
            "cameras.a.detect.zones.z.min_area: not below the camera's `max_area`",
        ),
        (
            "cameras: {a: {source: usb:0, record_source: usb:1, event: {pre: 20s}}}",
            "cameras.a.event.pre: reaches back further than `capture.ring_seconds`",
        ),
        (
            "cameras: {a: {source: usb:0, capture: {isolation: process, decode: auto, ring_bytes: 400MiB}}}",
            "cameras.a.capture.process_memory: leaves less than 128MiB beside a ring of `ring_bytes`",
        ),
        (
            (
                "cameras: {a: {source: usb:0, record_source: usb:1,"
                " capture: {isolation: process, decode: auto, ring_bytes: 200MiB}}}"
            ),
            "cameras.a.capture.process_memory: leaves less than 128MiB beside two rings of `ring_bytes`",
        ),
        (
            f"{FLEET}mqtt: {{host: broker}}\nminio: {{endpoint: store, secret_key: k}}",
            "instance: blank though `fleet.servers` is set, expected the name that all workers share",
        ),
        (
            f"{FLEET}instance: town\nminio: {{endpoint: store, secret_key: k}}",
            "mqtt.host: blank though `fleet.servers` is set, expected the broker that all workers share",
        ),
        (
            f"{FLEET}instance: town\nmqtt: {{host: broker}}",
            "minio.endpoint: blank though `fleet.servers` is set, expected the store that all workers share",
        ),
        ("fleet: {tls: {key_file: k.pem}}", "fleet.tls.key_file: set alone, expected `cert_file` with it"),
        ("location: {latitude: 52.5}", "location.latitude: set alone, expected `longitude`"),
        ("location: {longitude: 0}", "location.longitude: set alone, expected `latitude`"),
        (
            "cameras: {a: {source: usb:0, profiles: {switch: sun, night: {sensitivity: low}}}}",
            "cameras.a.profiles.switch: sun without a place, expected `location.latitude`",
        ),
        (
            "cameras: {a: {source: usb:0, profiles: {switch: picture}}}",
            "cameras.a.profiles.switch: picture, but `night` is blank, expected a value in `night`",
        ),
        (
            "cameras: {a: {source: usb:0, profiles: {night: {min_area: 90%}}}}",
            "cameras.a.profiles.night.min_area: not below `detect.max_area`",
        ),
    ],
)
def test_contradictions(tmp_path: Path, text: str, place: str) -> None:
    (line,) = refused(tmp_path, text)
    assert re.sub(r"^settings\.yaml:\d: ", "", line).startswith(place)


@pytest.mark.parametrize(
    "text",
    [
        "minio: {endpoint: s3, access_key: , secret_key: , credentials: aws}",
        "minio: {access_key: , secret_key: }",
        "web: {host: 0.0.0.0, token: t0ken}",
        "web: {host: localhost}",
        "web: {host: '::1'}",
        "mqtt: {tls: {enabled: true, cert_file: c.pem, key_file: k.pem}}",
        "minio: {endpoint: '[2001:db8::1]:9000'}",
        "minio: {endpoint: s3.eu-central-1.amazonaws.com, secure: true, credentials: env}",
        "minio: {endpoint: my_minio:9000}",
        (
            "location: {latitude: -90, longitude: 180}\n"
            "cameras: {a: {source: usb:0, profiles: {switch: sun, night: {threshold: 40}}}}"
        ),
        "cameras: {a: {source: usb:0, profiles: {night: {min_area: 1%}}}}",
        "cameras: {a: {source: usb:0, profiles: {night: }}}",
    ],
)
def test_what_does_go_together(tmp_path: Path, text: str) -> None:
    read(tmp_path, text)


# ---- secrets ----


def test_secrets_stay_out_of_every_text(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        "minio: {secret_key: hunter22-a, session_token: hunter22-b}\n"
        "mqtt: {username: u, password: hunter22-c}\n"
        "web: {token: hunter22-d}\n"
        "cameras: {a: {source: 'rtsp://u:hunter22%40e@h/x?token=hunter22-f', record_source: 'rtsp://u:hunter22-g@h/'}}\n",
    )
    shown = [
        repr(settings),
        str(settings),
        settings.model_dump_json(),
        str(settings.model_dump()),
        settings.origin,
    ]
    assert not any("hunter22" in text for text in shown)
    expected = {
        "hunter22-a",
        "hunter22-b",
        "hunter22-c",
        "hunter22-d",
        "hunter22%40e",
        "hunter22@e",
        "hunter22-f",
    }
    assert expected | {"hunter22-g"} <= settings.secrets()


def test_words_that_are_not_secrets_are_not_hidden(tmp_path: Path) -> None:
    settings = read(
        tmp_path, 'cameras: {a: {source: "demo:"}, b: {source: clip.mp4}, c: {source: rtsp://cam/x}}'
    )
    assert settings.secrets() == frozenset()


@pytest.mark.parametrize(
    "key", ["minio.secret_key", "minio.session_token", "mqtt.password", "web.token", "cameras.a.source"]
)
@pytest.mark.parametrize(
    "wrong", [["hunter22"], {"hunter22": "hunter22"}, "hunter22\nhunter22", 22222222, True, 2.2]
)
def test_a_wrong_secret_is_not_shown(tmp_path: Path, key: str, wrong: object) -> None:
    data: dict[str, Any] = {}
    *above, last = key.split(".")
    node = data
    for part in above:
        node = node.setdefault(part, {})
    node[last] = wrong
    text = "\n".join(refused(tmp_path, yaml.safe_dump(data)))
    assert key in text
    assert not any(secret in text for secret in ("hunter22", "22222222", "2.2"))


# ---- any input gives settings, or their problems ----

PLACES = [place for place, _ in leaves(Settings())]
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.dates(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def problems_of(path: Path | None, env: Mapping[str, str]) -> Sequence[str] | None:
    """Return None for valid settings; any exception but SettingsError fails the test."""
    try:
        load(path, env)
    except SettingsError as exc:
        return exc.problems
    return None


def is_answer(problems: Sequence[str] | None) -> bool:
    return problems is None or (len(problems) > 0 and all(": " in problem for problem in problems))


@runs(deadline=None)
@given(place=st.sampled_from(PLACES), value=ANY)
def test_any_value_at_any_key_gets_an_answer(
    tmp_path_factory: pytest.TempPathFactory, place: Any, value: Any
) -> None:
    data: Any = value
    for part in reversed(place):
        data = {part: data}
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")
    assert is_answer(problems_of(path, {}))


@runs(deadline=None)
@given(
    content=st.binary(max_size=60)
    | st.text(alphabet="ab:-[]{}&*!|>'\"%@`#,? \n\t<\\", max_size=40).map(str.encode)
)
def test_any_file_gets_an_answer(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)
    assert is_answer(problems_of(path, {}))


@runs(deadline=None)
@given(
    place=st.sampled_from(PLACES),
    value=st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=30),
)
def test_any_variable_gets_an_answer(place: Any, value: str) -> None:
    problems = problems_of(None, {variable(place): value})
    assert is_answer(problems)
    assert all(problem.startswith(variable(place)) for problem in problems or ())


def test_a_ring_that_is_not_used_needs_no_memory(tmp_path: Path) -> None:
    text = "isolation: process, process_memory: 192MiB, ring_bytes: 1GiB"
    path = written(tmp_path, f"cameras: {{a: {{source: usb:0, capture: {{{text}}}}}}}")
    capture = load(path, {}).cameras["a"].capture
    assert (capture.isolation, capture.process_memory) == ("process", 192 * 2**20)


# ---- homes, marks and variables without a value ----


def test_a_home_that_is_not_known_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home(_self: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", no_home)
    file = tmp_path / "v.yaml"
    file.write_text("directory: {path: ~/objects}\ncameras: {porch: {source: ~/clip.mp4}}\n")
    with pytest.raises(SettingsError) as caught:
        load(file, {})
    assert len(caught.value.problems) == 2
    assert all("a home that is not known" in problem for problem in caught.value.problems)
    with pytest.raises(SettingsError, match=r"ASYNC_MOTION_CONFIG: .*home"):
        load(None, {"ASYNC_MOTION_CONFIG": "~/v.yaml"})


def test_a_file_variable_without_a_value_is_not_set(tmp_path: Path) -> None:
    file = tmp_path / "v.yaml"
    file.write_text("minio: {secret_key: from the file}\n")
    env = {
        "MINIO_SECRET_KEY_FILE": "",
        "ASYNC_MOTION__MINIO__SECRET_KEY_FILE": "",
        "ASYNC_MOTION__WEB__TOKEN_FILE": "",
    }
    settings = load(file, env)
    assert settings.minio.secret_key is not None
    assert settings.minio.secret_key.get_secret_value() == "from the file"
    assert settings.web.token is None


def test_a_byte_order_mark_is_not_part_of_a_secret(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"\xef\xbb\xbfhunter22\r\n")
    settings = load(None, {"MINIO_SECRET_KEY_FILE": str(tmp_path / "secret")})
    assert settings.minio.secret_key is not None
    assert settings.minio.secret_key.get_secret_value() == "hunter22"


@pytest.mark.parametrize(
    ("text", "place"), [('"[key]": []', "1: [key]"), ('cameras: {a: {"[key]": 1}}', "1: cameras.a.[key]")]
)
def test_an_unknown_key_may_be_called_as_wrong_keys_are_marked(text: str, place: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(f"{place}: unknown key")):
        load_text(text.encode(), Path("v.yaml"), {})
