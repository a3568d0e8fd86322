"""What delivery needs: the spool on one side, the store and the broker on the other."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from async_motion.core.items import Announcement, EventNow, IndexDay, Upload
from async_motion.core.model import StoredFrame


class Outbox(Protocol):
    """The spool. Everything may raise SpoolError; an item stays in it until its fate is noted."""

    @property
    def stats(self) -> OutboxStats: ...
    def on_work(self, callback: Callable[[], None]) -> None: ...
    async def take_uploads(self, *, fresh: bool, limit: int) -> list[Upload]: ...
    async def take_fresh_announcements(self, limit: int) -> list[list[Announcement]]: ...
    async def take_backlog_announcements(self, limit: int) -> list[Announcement]: ...
    async def mark_stored(
        self, number: int, stored: StoredFrame | None, *, keep_jpeg: bool = False
    ) -> None: ...
    async def remove(self, numbers: Collection[int]) -> None: ...
    async def set_aside(self, number: int, reason: str) -> None: ...
    async def release(self, numbers: Collection[int], delay_s: float = 0.0) -> None: ...
    async def release_all(self) -> None: ...
    async def restore(self, numbers: Collection[int] | None = None) -> list[int]: ...
    async def restore_samples(self) -> dict[int, str]: ...
    async def restore_by_reason(self, reason: str) -> list[int]: ...
    async def due_index(self) -> list[IndexDay]: ...
    async def index_lines(self, day: IndexDay) -> list[str]: ...
    async def mark_indexed(self, day: IndexDay) -> None: ...
    async def writer(self) -> str: ...
    async def event_now(self, event_id: str) -> EventNow | None: ...
    async def jpeg(self, number: int) -> bytes | None: ...
    async def remember(self, key: str, value: bytes | None, *, durable: bool = True) -> None: ...
    async def recall(self, key: str) -> bytes | None: ...


class OutboxStats(Protocol):
    """What delivery reads of the spool's figures."""

    @property
    def empty(self) -> bool: ...
    @property
    def set_aside(self) -> int: ...
    @property
    def to_store(self) -> bool: ...
    @property
    def to_announce(self) -> bool: ...
    @property
    def backlog(self) -> bool:
        """Whether anything that waits is delayed."""


class Store(Protocol):
    """The bucket, or a directory that keeps the same promises."""

    bucket: str

    async def put(
        self,
        key: str,
        data: bytes,
        *,
        content_type: str,
        metadata: Mapping[str, str],
        tags: Mapping[str, str],
    ) -> str:
        """Return the etag. Raises StoreUnavailable, StoreRefused, RecordRejected."""

    async def get(self, key: str) -> bytes:
        """Return the object. Raises StoreUnavailable, StoreRefused, RecordRejected (there is none)."""

    async def probe(self) -> None:
        """Return if we may write now. Raises StoreUnavailable, StoreRefused."""

    async def link(self, key: str, expires_s: float) -> str | None:
        """Return a presigned GET, None where there is no such thing. Raises StoreUnavailable."""


class PublishingBroker(Protocol):
    """The connection to the broker, whether or not there is one now."""

    @property
    def connected(self) -> bool: ...

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Return after a good answer of the broker. Raises BrokerUnavailable, BrokerRefused."""

    def on_connect(self, callback: Callable[[], None]) -> None: ...
