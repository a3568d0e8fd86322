"""The rights that `async-motion policy` prints: with all of them everything works; each one is necessary.

S3: SeaweedFS with its policies, JuiceFS's gateway with MinIO's code, and moto, which checks rights and
signatures, for AWS. MQTT: mosquitto, with all parts of the service that connect to it. NATS: nats-server.
"""

from __future__ import annotations

import asyncio
import copy
import json
import re
import subprocess
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import pytest
import yaml
from miniopy_async.credentials.providers import StaticProvider
from miniopy_async.minioadmin import MinioAdmin

from async_motion.app.buckets import build_bucket, build_events
from async_motion.app.build import build_client, build_discovery, build_reporter, build_spool, build_store
from async_motion.app.fleet_overview import look
from async_motion.app.rights import mosquitto_acl, nats_permissions, s3_policy
from async_motion.core.health import DeliveryHealth
from async_motion.errors import LeaseUnavailable, RecordRejected, StoreRefused
from async_motion.fleet.leases import bucket_name
from async_motion.fleet.nats_bucket import NatsBucket
from async_motion.settings import Settings, load
from tests.support.moto import Moto
from tests.support.mqtt import Mosquitto, Recorder, need
from tests.support.nats import nats_server
from tests.support.ports import free_port
from tests.support.s3 import User, juicefs, run, seaweedfs
from tests.support.wait import eventually, eventually_async

MINIO: dict[str, dict[str, Any]] = {
    "puts": {"create_bucket": False},
    "makes the bucket": {"create_bucket": True},
    "links": {"create_bucket": False, "presign": "1h"},
    "tags": {"create_bucket": False, "tags": True},
    "reads": {"create_bucket": False},
}
"""Settings for each kind of work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One user: the work, its bucket, the policy, and the right that was removed, or none."""

    work: str
    bucket: str
    policy: dict[str, Any]
    missing: str | None


def settings_of(folder: Path, work: str, bucket: str, user: User | None = None) -> Settings:
    file = folder / "variables.yaml"
    keys = {"endpoint": "127.0.0.1:1", "access_key": "someone", "secret_key": "not-a-secret"}
    if user is not None:
        keys = {"endpoint": user.endpoint, "access_key": user.access_key, "secret_key": user.secret_key}
    minio = {"bucket": bucket, "prefix": "cameras/", **MINIO[work], **keys}
    file.write_text(yaml.safe_dump({"instance": "edge1", "minio": minio}))
    return load(file, {})


def cases_of(folder: Path, *, aws: bool) -> list[Case]:
    """Return for each kind of work a user with the full policy, and one user for each missing right."""
    cases: list[Case] = []
    for work in MINIO:
        lacking: list[str | None] = [None]
        whole = s3_policy(settings_of(folder, work, "bucket"), reader=work == "reads", aws=aws)
        lacking += [action for statement in whole["Statement"] for action in statement["Action"]]
        for missing in lacking:
            bucket = f"motion-{len(cases)}"
            policy = s3_policy(settings_of(folder, work, bucket), reader=work == "reads", aws=aws)
            cases.append(
                Case(work=work, bucket=bucket, policy=without(policy, missing), missing=missing),
            )
    return cases


def without(policy: dict[str, Any], action: str | None) -> dict[str, Any]:
    left = copy.deepcopy(policy)
    for statement in left["Statement"]:
        statement["Action"] = [each for each in statement["Action"] if each != action]
        if not statement["Action"]:
            # No server accepts a statement without an action.
            statement["Action"] = ["s3:GetBucketVersioning"]
            statement.pop("Condition", None)
    return left


async def work(settings: Settings, kind: str, *, by_link: bool = True) -> None:
    """Do with the settings' own key what the service or a reader does. Raises if it is refused.

    Without `by_link`, objects are fetched with the key that would sign the link: a link has the key's rights.
    """
    key = f"{settings.minio.prefix}edge1/porch/2026/11/22/000001.jpg"
    if kind == "reads":
        async with build_bucket(settings) as bucket:
            assert [event async for event in build_events(settings, bucket).events()] == []
            assert await bucket.read(key, 1000) == b"jpeg"
        return
    async with build_store(settings) as store:
        await store.probe()
        await store.put(key, b"jpeg", content_type="image/jpeg", metadata={}, tags={"camera": "porch"})
        if kind == "links" and not by_link:
            await store.get(key)
        elif kind == "links":
            link = await store.link(key, 60.0)
            assert link is not None
            async with aiohttp.ClientSession() as session, session.get(link) as answer:
                if answer.status != 200:
                    raise StoreRefused(f"the link answers {answer.status}")


def check(folder: Path, cases: Sequence[Case], users: Sequence[User], *, by_link: bool = True) -> None:
    """Do each case's work as its user. None of these servers checks the right to tag."""
    wrong = []
    for case, user in zip(cases, users, strict=True):
        settings = settings_of(folder, case.work, case.bucket, user)
        try:
            run(work(settings, case.work, by_link=by_link))
            outcome = None
        except (StoreRefused, RecordRejected) as exc:
            outcome = str(exc)
        if (outcome is None) != (case.missing is None or case.missing == "s3:PutObjectTagging"):
            wrong.append(f"{case.work} without {case.missing}: {outcome or 'was not refused'}")
    assert not wrong, wrong


def elsewhere(folder: Path, case: Case, user: User) -> None:
    """Assert that another instance's keys are refused."""
    settings = settings_of(folder, case.work, case.bucket, user)

    async def put() -> None:
        async with build_store(settings) as store:
            with pytest.raises((StoreRefused, RecordRejected)):
                await store.put("cameras/edge2/a.jpg", b"x", content_type="image/jpeg", metadata={}, tags={})

    run(put())


def may_put(folder: Path, case: Case, user: User) -> bool:
    try:
        run(work(settings_of(folder, case.work, case.bucket, user), case.work))
    except (StoreRefused, RecordRejected):
        return False
    return True


def prepare(cases: Sequence[Case], client: Callable[[], Any]) -> None:
    """Create the buckets that must exist, and an object to read."""

    async def make() -> None:
        async with client() as minio:
            for case in cases:
                if case.work != "makes the bucket":
                    await minio.make_bucket(case.bucket)
                if case.work == "reads":
                    key = "cameras/edge1/porch/2026/11/22/000001.jpg"
                    await minio.put_object(case.bucket, key, _Body(b"jpeg"), 4)

    run(make())


class _Body:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, size: int = -1) -> bytes:
        data, self._data = self._data[:size] if size >= 0 else self._data, b""
        return data


def test_seaweedfs_takes_exactly_these_rights(tmp_path: Path) -> None:
    cases = cases_of(tmp_path, aws=False)
    with seaweedfs(tmp_path / "server", policies=[case.policy for case in cases]) as server:
        prepare(cases, server.raw)
        # Its policies take effect shortly after it first answers.
        eventually(lambda: may_put(tmp_path, cases[0], server.users[0]), within_s=30, what="the policies")
        check(tmp_path, cases, server.users)
        elsewhere(tmp_path, cases[0], server.users[0])


def test_minio_s_own_code_takes_exactly_these_rights(tmp_path: Path) -> None:
    cases = cases_of(tmp_path, aws=False)
    with juicefs(tmp_path / "server") as server:
        users = [User(endpoint=server.endpoint) for _ in cases]

        async def make_users() -> None:
            provider = StaticProvider(server.admin.access_key, server.admin.secret_key)
            async with aiohttp.ClientSession() as session:
                admin = MinioAdmin(server.endpoint, provider, secure=False, session=session)
                for number, (case, user) in enumerate(zip(cases, users, strict=True)):
                    file = tmp_path / "policy.json"
                    file.write_text(json.dumps(case.policy))
                    await admin.policy_add(f"policy-{number}", str(file))
                    await admin.user_add(user.access_key, user.secret_key)
                    await admin.policy_set(f"policy-{number}", user=user.access_key)

        prepare(cases, server.raw)
        run(make_users())
        check(tmp_path, cases, users)
        elsewhere(tmp_path, cases[0], users[0])


def test_aws_takes_exactly_these_rights(tmp_path: Path) -> None:
    cases = cases_of(tmp_path, aws=True)
    with Moto(tmp_path) as server:
        prepare(cases, server.raw)
        users = [server.make_user(f"user-{number}", case.policy) for number, case in enumerate(cases)]
        server.enforce()
        check(tmp_path, cases, users, by_link=False)  # moto cannot check a link's rights
        elsewhere(tmp_path, cases[0], users[0])


PASSWORD = "pass-of-the-test"
NEEDS = {
    "says that it is online": ("write base",),
    "clears what is left of a camera": ("write base", "read base"),
    "announces its devices": ("write base", "write devices"),
    "clears what is left of a device": ("write base", "write devices", "read devices"),
    "hears Home Assistant come up below its prefix": ("write base", "write devices", "read ha/status"),
    "hears Home Assistant come up": ("write base", "write devices", "read homeassistant/status"),
    "tells those who listen for Frigate": ("write base", "write frigate"),
}
"""What a service does with the broker, and the rights that it needs for that.

Without the right to publish its status it does nothing: mosquitto disconnects at the first forbidden topic.
"""


def mqtt_settings(folder: Path, port: int, instance: str) -> Settings:
    file = folder / f"{instance}.yaml"
    mqtt = {"host": "127.0.0.1", "port": port, "username": instance, "password": PASSWORD}
    mqtt |= {"discovery": {"prefix": "ha"}, "frigate_topic": f"frigate-{instance}"}
    file.write_text(yaml.safe_dump({"instance": instance, "spool": {"path": ":memory:"}, "mqtt": mqtt}))
    return load(file, {})


def lacking(acl: str, instance: str) -> dict[str, str]:
    """Return access lists that lack one right each, by a description of the missing right."""
    names = {f"async_motion/{instance}/#": "base", f"ha/device/async_motion_{instance}/#": "devices"}
    names |= {f"frigate-{instance}/+/motion": "frigate"}
    lines = acl.splitlines()
    lists = {}
    for number, line in enumerate(lines):
        word, rights, topic = line.split(" ", 2) if line.startswith("topic") else ("", "", "")
        for right in [right for right in ("read", "write") if word and right in rights]:
            others = rights.replace(right, "", 1)
            changed = [f"topic {others} {topic}"] if others else []
            lists[f"{right} {names.get(topic, topic)}"] = "\n".join(
                [*lines[:number], *changed, *lines[number + 1 :], ""]
            )
    return lists


def add_login(folder: Path, user: str) -> None:
    command = [need("mosquitto_passwd"), "-b", str(folder / "passwords"), user, PASSWORD]
    subprocess.run(command, check=True, capture_output=True)


async def lead_a_life(settings: Settings) -> None:
    """Run the parts of a service that use the broker, until cancelled."""
    async with build_spool(settings) as spool:
        topic = f"async_motion/{settings.instance}/status"
        client = build_client(settings, "127.0.0.1", settings.mqtt.port, status_topic=topic)
        reporter = await build_reporter(
            settings, broker=client, spool=spool, health=DeliveryHealth, restart_capture=lambda: None
        )
        discovery = await build_discovery(
            settings, broker=client, spool=spool, reporter=reporter, looked=lambda _topics: None
        )
        async with asyncio.TaskGroup() as tasks:
            for part in (client, reporter, discovery):
                tasks.create_task(part.run(), name=type(part).__name__)


def seen(recorder: Recorder, instance: str) -> set[str]:
    """Return the keys of `NEEDS` that were observed for an instance."""
    hub = f"ha/device/async_motion_{instance}/config"
    signs = {
        "says that it is online": "online" in recorder.texts(f"async_motion/{instance}/status"),
        "clears what is left of a camera": "" in recorder.texts(f"async_motion/{instance}/gone/status"),
        "announces its devices": bool(recorder.texts(hub)),
        "clears what is left of a device": "" in recorder.texts(hub.replace("/config", "/gone/config")),
        "tells those who listen for Frigate": bool(recorder.texts(f"frigate-{instance}/demo/motion")),
    }
    return {sign for sign, there in signs.items() if there}


async def test_mosquitto_takes_exactly_these_rights(tmp_path: Path) -> None:
    """Run services side by side: each lacks another right, and one lacks none."""
    broker = Mosquitto(tmp_path / "broker", login=("admin", PASSWORD), acl="")
    missing = [None, *lacking(mosquitto_acl(mqtt_settings(tmp_path, broker.port, "edge0")), "edge0")]
    services = {
        f"edge{number}": (right, mqtt_settings(tmp_path, broker.port, f"edge{number}"))
        for number, right in enumerate(missing)
    }
    lists = ["user admin", "topic readwrite #", ""]
    for instance, (right, settings) in services.items():
        acl = mosquitto_acl(settings)
        lists.append(acl if right is None else lacking(acl, instance)[right])
        add_login(tmp_path / "broker", instance)
    (tmp_path / "broker/acl").write_text("\n".join(lists))

    with broker, Recorder(broker.port, ("#",), "5", "admin", PASSWORD) as recorder:
        for instance in services:
            recorder.publish(f"async_motion/{instance}/gone/status", "offline", retain=True)
            recorder.publish(f"ha/device/async_motion_{instance}/gone/config", "{}", retain=True)
        lives = [
            asyncio.create_task(lead_a_life(settings), name=instance)
            for instance, (_, settings) in services.items()
        ]
        try:
            found = {instance: set[str]() for instance in services}

            def wanted(instance: str, signs: Iterable[str]) -> set[str]:
                right = services[instance][0]
                return {sign for sign in signs if right not in NEEDS[sign]}

            async def observe(signs: Iterable[str], look: Callable[[str], set[str]]) -> None:
                def all_there() -> bool:
                    for instance in services:
                        found[instance] |= look(instance)
                    return all(wanted(instance, signs) <= found[instance] for instance in services)

                await asyncio.to_thread(eventually, all_there, within_s=60, what="all that is allowed")

            at_the_start = [sign for sign in NEEDS if not sign.startswith("hears")]
            await observe(at_the_start, lambda instance: seen(recorder, instance))
            for topic, sign in (
                ("ha/status", "hears Home Assistant come up below its prefix"),
                ("homeassistant/status", "hears Home Assistant come up"),
            ):
                before = len(recorder.messages)
                recorder.publish(topic, "online")

                def heard(instance: str, before: int = before, sign: str = sign) -> set[str]:
                    hub = f"ha/device/async_motion_{instance}/config"
                    return {sign} if any(m.topic == hub for m in recorder.messages[before:]) else set()

                await observe([sign], heard)
        finally:
            for life in lives:
                life.cancel()
            await asyncio.wait(lives)

    assert len(services) == 8
    for instance, (right, _) in services.items():
        if right == "write base":
            # It is disconnected repeatedly, so a few messages get through.
            assert "says that it is online" not in found[instance]
        else:
            assert found[instance] == wanted(instance, NEEDS), right


def test_a_reader_of_the_broker_may_listen_and_no_more(tmp_path: Path) -> None:
    settings = mqtt_settings(tmp_path, free_port(), "edge1")
    acl = mosquitto_acl(settings, reader=True)
    with Mosquitto(tmp_path / "broker", login=("reader", PASSWORD), acl=acl) as broker:
        add_login(tmp_path / "broker", "edge1")
        broker.allow(acl + "\n" + mosquitto_acl(settings))
        base = "async_motion/edge1/"
        with (
            Recorder(broker.port, ("#",), "5", "reader", PASSWORD) as reader,
            Recorder(broker.port, (f"{base}#",), "5", "edge1", PASSWORD) as service,
        ):
            service.publish("ha/device/async_motion_edge1/config", "{}")
            service.publish(f"{base}demo/motion", "ON")
            reader.wait(f"{base}demo/motion")
            reader.publish(f"{base}demo/detection/set", "OFF")
            service.publish(f"{base}demo/motion", "OFF")
            service.wait(lambda message: message.text == "OFF")

            assert {message.topic for message in reader.messages} == {f"{base}demo/motion"}
            assert {message.topic for message in service.messages} == {f"{base}demo/motion"}


# ---- NATS ----

NATS_SIGNS = (
    "keeps a report",
    "takes a lease",
    "renews it",
    "reads it",
    "gives it back",
    "follows the bucket",
)
NATS_LOST = {
    "STREAM.INFO": set(NATS_SIGNS),
    "STREAM.CREATE": set(NATS_SIGNS),
    "STREAM.MSG.GET": {"reads it"},
    "$KV": set(NATS_SIGNS),
    "CONSUMER.CREATE": {"follows the bucket"},
    "CONSUMER.INFO": {"follows the bucket"},
    "$JS.FC": {"follows the bucket"},
    "_INBOX": set(NATS_SIGNS),
}
"""What a worker can no longer do without a right."""

T = TypeVar("T")


def fleet_settings(folder: Path) -> Settings:
    fleet = {"servers": ["nats://nats1:4222"], "name": "w1"}
    elsewhere = {"mqtt": {"host": "broker"}, "minio": {"endpoint": "minio:9000", "secret_key": PASSWORD}}
    file = folder / "fleet.yaml"
    file.write_text(yaml.safe_dump({"instance": "edge1", "fleet": fleet, **elsewhere}))
    return load(file, {})


async def works_as_a_worker(url: str) -> set[str]:
    """Return which of NATS_SIGNS succeed for one user."""
    found = set[str]()
    async with NatsBucket([url], bucket_name("edge1"), ttl_s=6.0, worker="w1") as bucket:

        async def attempt(sign: str, request: Awaitable[T]) -> T | None:
            try:
                answer = await request
            except LeaseUnavailable:
                return None
            found.add(sign)
            return answer

        async def follow() -> None:
            """Read the whole of a bucket that is too large to be sent without flow control."""
            for number in range(200):
                await bucket.put(f"worker.{number}", bytes(16_000))
            async for entry in bucket.watch():
                if entry is None:
                    return

        await attempt("keeps a report", bucket.put("worker.w1", b"{}"))
        revision = await attempt("takes a lease", bucket.create("camera.porch", b"1"))
        revision = await attempt("renews it", bucket.update("camera.porch", b"2", revision or 0))
        if await attempt("reads it", bucket.get("camera.porch")) is None:
            found.discard("reads it")
        await attempt("gives it back", bucket.delete("camera.porch", revision or 0))
        if "keeps a report" in found:
            await attempt("follows the bucket", follow())
    return found


async def test_nats_takes_exactly_these_rights(tmp_path: Path) -> None:
    """Each user has an account, hence a bucket, of its own; each lacks another right, and one lacks none."""
    permissions = nats_permissions(fleet_settings(tmp_path))
    subjects = re.findall(r'"([^"]+)"', permissions)
    assert len(subjects) == len(NATS_LOST)
    users = [("", permissions), *((subject, permissions.replace(subject, "none")) for subject in subjects)]
    accounts = "\n".join(
        f"A{number} {{ jetstream: enabled, users: [{{user: u{number}, password: {PASSWORD}, {allowed}}}] }}"
        for number, (_, allowed) in enumerate(users)
    )
    with nats_server(tmp_path, f"accounts {{\n{accounts}\n}}\n") as server:
        await eventually_async(lambda: "Server is ready" in server.log(), within_s=60, what="the server")
        urls = [server.url.replace("//", f"//u{number}:{PASSWORD}@") for number in range(len(users))]
        found = await asyncio.gather(*map(works_as_a_worker, urls))
    for (subject, _), signs in zip(users, found, strict=True):
        lost = next((lost for part, lost in NATS_LOST.items() if subject and part in subject), set())
        assert signs == set(NATS_SIGNS) - lost, subject


async def test_a_reader_of_a_fleet_is_shown_it_and_changes_nothing(tmp_path: Path) -> None:
    settings = fleet_settings(tmp_path)
    users = ", ".join(
        f"{{user: {name}, password: {PASSWORD}, {nats_permissions(settings, reader=name == 'reader')}}}"
        for name in ("worker", "reader")
    )
    with nats_server(tmp_path, f"accounts {{ A {{ jetstream: enabled, users: [{users}] }} }}\n") as server:
        await eventually_async(lambda: "Server is ready" in server.log(), within_s=60, what="the server")
        url, name = server.url.replace("//", f"//{{}}:{PASSWORD}@"), bucket_name("edge1")
        async with (
            NatsBucket([url.format("worker")], name, ttl_s=6.0, worker="w1") as worker,
            NatsBucket([url.format("reader")], name, ttl_s=6.0, worker="reader") as reader,
        ):
            await worker.put("worker.w1", b"{}")
            shown = await look(reader, settings)
            assert [line.name for line in shown.workers] == ["w1"]
            with pytest.raises(LeaseUnavailable):
                await reader.put("worker.w1", b"{}")
