"""Real NATS servers that refuse us for a while: the connection says why, and comes back by itself."""

from __future__ import annotations

import shutil
from contextlib import suppress
from functools import partial
from pathlib import Path

import nats
import nats.js.errors
import pytest

from async_motion.errors import LeaseUnavailable
from async_motion.fleet.nats_bucket import NatsBucket
from async_motion.tls import TlsFiles, client_context
from tests.support.nats import LEADER_S, Operator, nats_server
from tests.support.tls import make_authority
from tests.support.wait import eventually_async

TTL_S = 2.0


async def problem(bucket: NatsBucket) -> str:
    """Return why a write fails; blank if it does not."""
    try:
        await bucket.put("hello", b"x")
    except LeaseUnavailable as exc:
        return str(exc)
    return ""


async def wait_until_written(bucket: NatsBucket) -> None:
    async def written() -> bool:
        return not await problem(bucket)

    await eventually_async(written, within_s=LEADER_S, what="a write")


async def wait_for_problem(bucket: NatsBucket, *words: str) -> None:
    async def said() -> bool:
        text = await problem(bucket)
        return any(word in text for word in words)

    await eventually_async(said, within_s=LEADER_S, what=f"a problem with {words}")


async def test_a_user_that_is_refused_for_a_while_is_let_in_again(tmp_path: Path) -> None:
    def users(password: str) -> str:
        return f'authorization {{ users: [{{user: "worker", password: "{password}"}}] }}'

    with nats_server(tmp_path, users("first")) as server:
        url = f"nats://worker:first@127.0.0.1:{server.port}"
        async with NatsBucket([url], "fleet", ttl_s=TTL_S, worker="w1") as bucket:
            await wait_until_written(bucket)
            server.configure(users("second"))
            server.reload()
            await wait_for_problem(bucket, "Authorization Violation", "authorization failed")
            server.configure(users("first"))
            server.reload()
            await wait_until_written(bucket)


async def test_a_credentials_file_is_read_for_each_connection(tmp_path: Path) -> None:
    operator = Operator()
    file = tmp_path / "worker.creds"
    with nats_server(tmp_path / "nats", operator.config()) as server:
        async with NatsBucket([server.url], "fleet", ttl_s=10.0, worker="w1", credentials=file) as bucket:
            assert "fleet.credentials" in await problem(bucket)
            file.write_text(Operator().credentials())
            assert "no NATS server answers" in await problem(bucket)
            file.write_text(operator.credentials())
            await wait_until_written(bucket)


async def test_tls_files_that_were_renewed_are_read_again(tmp_path: Path) -> None:
    old, new = make_authority(tmp_path / "old"), make_authority(tmp_path / "new")
    ca_file = tmp_path / "ca.pem"
    shutil.copy(old.ca_file, ca_file)

    def config(authority: Path) -> str:
        return f'tls {{ cert_file: "{authority / "server.pem"}", key_file: "{authority / "server.key"}" }}'

    with nats_server(tmp_path / "nats", config(old.ca_file.parent)) as server:
        context = partial(client_context, TlsFiles(ca_file=str(ca_file)))
        url = f"tls://127.0.0.1:{server.port}"
        async with NatsBucket([url], "fleet", ttl_s=TTL_S, worker="w1", tls=context) as bucket:
            await wait_until_written(bucket)
            server.kill()
            server.configure(config(new.ca_file.parent))
            server.start()
            await wait_for_problem(bucket, "CERTIFICATE_VERIFY_FAILED")
            ca_file.unlink()
            await wait_for_problem(bucket, "fleet.tls.ca_file")
            shutil.copy(new.ca_file, ca_file)
            await wait_until_written(bucket)


async def test_watches_that_have_ended_do_not_pile_up_in_the_servers(tmp_path: Path) -> None:
    with nats_server(tmp_path) as server:
        # The watches must outlast the first look at them.
        async with NatsBucket([server.url], "fleet", ttl_s=10.0, worker="w1") as bucket:
            await wait_until_written(bucket)
            for _ in range(5):
                async for entry in bucket.watch():
                    if entry is None:
                        break
            client = await nats.connect(server.url)
            try:
                stream = client.jetstream()

                async def left() -> int:
                    return len(await stream.consumers_info("KV_fleet"))

                assert await left() > 0

                async def gone() -> bool:
                    return await left() == 0

                await eventually_async(gone, within_s=LEADER_S, what="the end of the watches")
            finally:
                await client.close()


async def test_a_bucket_in_place_of_the_leases_bucket_is_refused_until_it_is_deleted(tmp_path: Path) -> None:
    with nats_server(tmp_path) as server:
        async with NatsBucket([server.url], "fleet", ttl_s=TTL_S, worker="w1") as bucket:
            await wait_until_written(bucket)
            before = await bucket.put("hello", b"x")
            client = await nats.connect(server.url)
            stream = client.jetstream()
            config = (await stream.stream_info("KV_fleet")).config
            config.first_seq = None
            await stream.delete_stream("KV_fleet")
            with suppress(nats.js.errors.BadRequestError):  # the worker was first
                await stream.add_stream(config)
                await wait_for_problem(bucket, "was replaced: its revisions are lower")
                with pytest.raises(LeaseUnavailable, match="nats kv del fleet"):
                    await bucket.get("hello")
                await stream.delete_stream("KV_fleet")
            await client.close()
            await wait_until_written(bucket)
            assert await bucket.put("hello", b"x") > before
