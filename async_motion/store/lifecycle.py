"""Expiry by the server: one lifecycle rule of ours, by prefix, beside the bucket's other rules.

The server removes objects older than the rule's days, once a day by its own clock. Other rules stay: the
whole configuration is read, our rule is replaced by its id, and all is written back. This needs the
permissions s3:GetLifecycleConfiguration and s3:PutLifecycleConfiguration.
"""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree import ElementTree

from miniopy_async.commonconfig import ENABLED, Filter
from miniopy_async.lifecycleconfig import Expiration, LifecycleConfig, Rule

from async_motion.errors import RecordRejected, StoreRefused
from async_motion.store.minio import MinioStore
from async_motion.store.s3errors import S3Answer

NOT_THERE = "NoSuchLifecycleConfiguration"
_NOT_MADE = frozenset({"NotImplemented", "XNotImplemented", "MethodNotAllowed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpiryRule:
    """A lifecycle rule of the bucket. `days` is None if it does not expire objects by age."""

    rule_id: str
    prefix: str
    days: int | None
    enabled: bool


class LifecycleStore(MinioStore):
    """A MinioStore whose lifecycle rules can be read and set."""

    async def rules(self) -> list[ExpiryRule]:
        """Return the bucket's rules. Raises StoreRefused if the server supports none, StoreUnavailable."""
        return [
            ExpiryRule(
                rule_id=rule.rule_id or "",
                prefix=(rule.rule_filter.prefix or "") if rule.rule_filter else "",
                days=rule.expiration.days if rule.expiration else None,
                enabled=rule.status == ENABLED,
            )
            for rule in await self._configured()
        ]

    async def set_rule(self, rule_id: str, prefix: str, days: int) -> None:
        """Expire objects below `prefix` after `days`; replaces a rule with this id. Raises as `rules`."""
        mine = Rule(
            ENABLED, rule_filter=Filter(prefix=prefix), rule_id=rule_id, expiration=Expiration(days=days)
        )
        others = [rule for rule in await self._configured() if rule.rule_id != rule_id]
        try:
            async with self._request("set lifecycle of", self.bucket, self._put_timeout_s):
                await self._client.set_bucket_lifecycle(self.bucket, LifecycleConfig([*others, mine]))
        except (RecordRejected, StoreRefused) as exc:
            raise self._refusal(exc) from exc

    async def _configured(self) -> list[Rule]:
        try:
            async with self._request("get lifecycle of", self.bucket, self._put_timeout_s):
                response = await self._client.ask("GET", self.bucket, query={"lifecycle": ""})
                async with response:
                    text = await response.text()
        except (RecordRejected, StoreRefused) as exc:
            answer = exc.__cause__
            if isinstance(answer, S3Answer) and answer.code == NOT_THERE:
                return []
            raise self._refusal(exc) from exc
        try:
            return list(LifecycleConfig.fromxml(ElementTree.fromstring(text)).rules)  # noqa: S314  # expat bounds what entities expand to
        except Exception as exc:  # the library's parser may raise anything
            raise StoreRefused(f"{self._name}: its lifecycle rules cannot be read: {exc}") from exc

    def _refusal(self, exc: Exception) -> StoreRefused:
        answer = exc.__cause__
        if isinstance(answer, S3Answer) and answer.code in _NOT_MADE:
            return StoreRefused(
                f"{self._name}: this server has no lifecycle rules: use `async-motion delete`"
            )
        return StoreRefused(str(exc))
