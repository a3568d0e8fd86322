"""The bucket for readers: paged listings, bounded reads, metadata, links, removal.

Listings are requested and parsed here: miniopy-async's own hides the pages, and its object for each entry
costs more than the rest of the read. `_execute` is private: the dependency is pinned to 1.23.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote_plus
from xml.etree import ElementTree

from miniopy_async.deleteobjects import DeleteObject

from async_motion.core.listing import Listed, Page
from async_motion.errors import RecordRejected, StoreRefused, StoreUnavailable, UnreadableObject
from async_motion.store.minio import MinioStore
from async_motion.store.s3errors import S3Answer

_MAX_PAGE_BYTES = 16 * 1024 * 1024
_PIECE_BYTES = 1024 * 1024
_META = "x-amz-meta-"


class MinioReader(MinioStore):
    """A MinioStore that can be searched. It needs s3:ListBucket and s3:GetObject."""

    async def page(
        self, prefix: str, *, folders: bool = False, start_after: str = "", token: str | None = None
    ) -> Page:
        """Return one page of a listing, at most 1,000 entries. Raises StoreUnavailable, StoreRefused."""
        query: dict[str, Any] = {
            "list-type": "2",
            "encoding-type": "url",
            "max-keys": "1000",
            "prefix": prefix,
        }
        if folders:
            query["delimiter"] = "/"
        if token is not None:
            query["continuation-token"] = token
        elif start_after:
            query["start-after"] = start_after
        try:
            async with self._request("list", prefix, self._put_timeout_s):
                response = await self._client.ask("GET", self.bucket, query=query)
                async with response:
                    body = await _bounded(response, _MAX_PAGE_BYTES)
        except RecordRejected as exc:
            # A listing concerns no object: a refusal would be the same for every listing.
            raise StoreRefused(f"{self._name}: listing rejected: {exc}") from exc
        if body is None:
            raise StoreUnavailable(f"{self._name}: list {prefix}: the answer is too long")
        try:
            return _parse(body)
        except (ElementTree.ParseError, ValueError) as exc:
            raise StoreUnavailable(
                f"{self._name}: list {prefix}: the answer is not a listing: is this an S3 server?"
            ) from exc

    async def read(self, key: str, max_bytes: int) -> bytes | None:
        """Return an object's bytes, or None if there is none.

        Raises UnreadableObject if it is longer than `max_bytes`, StoreUnavailable, StoreRefused.
        """
        try:
            async with self._request("get", key, self._put_timeout_s):
                response = await self._client.get_object(self.bucket, key)
            async with response, self._request("get", key, self._time_for(response.content_length or 0)):
                data = await _bounded(response, max_bytes)
        except RecordRejected:
            return None
        if data is None:
            raise UnreadableObject(f"{key}: longer than {max_bytes} bytes")
        return data

    async def pieces(self, key: str) -> AsyncIterator[bytes]:
        """Yield an object's bytes as they arrive, in pieces of at most 1 MiB, without a size limit.

        Raises RecordRejected if there is none, StoreUnavailable, StoreRefused.
        """
        async with self._request("get", key, self._put_timeout_s):
            response = await self._client.get_object(self.bucket, key)
        async with response:
            while True:
                # Each piece, at most 1 MiB, has its own deadline.
                async with self._request("get", key, self._put_timeout_s):
                    piece = await response.content.read(_PIECE_BYTES)
                if not piece:
                    return
                yield piece

    async def about(self, key: str) -> Mapping[str, str] | None:
        """Return an object's user metadata, names in lower case; None if there is no object.

        Raises StoreUnavailable, StoreRefused.
        """
        try:
            async with self._request("head", key, self._put_timeout_s):
                response = await self._client.ask("HEAD", self.bucket, key)
        except RecordRejected:
            return None
        except StoreRefused as exc:
            # A response to HEAD has no body, and so no error code.
            if isinstance(exc.__cause__, S3Answer) and exc.__cause__.status == 404:
                return None
            raise
        return {
            name.lower()[len(_META) :]: value
            for name, value in response.headers.items()
            if name.lower().startswith(_META)
        }

    async def write(self, key: str, data: bytes, content_type: str) -> None:
        """Store an object without metadata. Raises RecordRejected, StoreUnavailable, StoreRefused."""
        await self.put(key, data, content_type=content_type, metadata={}, tags={})

    async def remove(self, keys: Sequence[str]) -> None:
        """Remove objects, at most 1,000, in one request. Raises StoreUnavailable, StoreRefused."""
        errors: list[Any] = []
        try:
            async with self._request("delete", f"{len(keys)} objects", self._put_timeout_s):
                removal = self._client.remove_objects(self.bucket, map(DeleteObject, keys))
                errors.extend([error async for error in removal])
        except RecordRejected as exc:
            raise StoreRefused(f"{self._name}: delete rejected: {exc}") from exc
        if errors:
            first = errors[0]
            raise StoreRefused(
                f"{self._name}: {len(errors)} objects could not be deleted: {first.name}: {first.code}"
            )


async def _bounded(response: Any, max_bytes: int) -> bytes | None:
    """Return a body, or None if it is longer than `max_bytes`."""
    if (response.content_length or 0) > max_bytes:
        return None
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > max_bytes:
            return None
    return bytes(body)


def _parse(body: bytes) -> Page:
    """Parse a ListObjectsV2 response. Raises ElementTree.ParseError, ValueError."""
    root = ElementTree.fromstring(body)  # noqa: S314  # expat bounds entities; bodies are bounded
    space, brace, name = root.tag.rpartition("}")
    if name != "ListBucketResult":
        raise ValueError(f"expected ListBucketResult, got {name}")
    space += brace
    # AWS encodes a space as `+`, and a `+` as `%2B`.
    decode = unquote_plus if root.findtext(f"{space}EncodingType") == "url" else str
    objects = tuple(
        Listed(decode(each.findtext(f"{space}Key") or ""), int(each.findtext(f"{space}Size") or 0))
        for each in root.iterfind(f"{space}Contents")
    )
    folders = tuple(
        decode(each.findtext(f"{space}Prefix") or "") for each in root.iterfind(f"{space}CommonPrefixes")
    )
    more = root.findtext(f"{space}IsTruncated") == "true"
    token = root.findtext(f"{space}NextContinuationToken")
    return Page(objects=objects, folders=folders, next=token if more else None)
