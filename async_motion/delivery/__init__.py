"""Delivery: from the spool to the store, and from the store to the subscribers.

    spool ──take_uploads──▶ put ──▶ mark_stored ──▶ spool ──take_…_announcements──▶ publish ──▶ remove
            (store's breaker)                              (broker's breaker)

    delivery         the shared state, and the tasks that run the parts
    dispatch         starts work when there is some, a slot is free, and the breaker allows it
    uploader         frames and summaries to the store
    publisher        announcements and phases to the broker
    index            the files of the event index to the store
    day_logs         the files of the day logs to the store
    snapshots        which frame a camera's snapshot shows
    retries          what happens to an item that failed
    rejections       whether a rejection is the record's fault or the store's
    circuit_breaker  whether a peer may be called
    protocols        what delivery needs of the spool, the store and the broker

The two halves meet only in the spool's tables, so that each works while the other's peer is away. Without
the store nothing is announced; without the broker frames are stored, marked, and announced later without a
second put. The order is the promise: a frame is announced only after the store has confirmed it and the
spool has noted that; it leaves the spool only after the broker has confirmed the announcement. A crash
between any two steps repeats the later ones, with the same key and the same ids.

For one frame, in this order: the object; `snapshot/attributes`, `snapshot` and `snapshot/frame` (retained;
if it is the best frame so far of its camera's newest event); `frame`; then, if due, an update on `event`. An
event's start follows its opening frame; its end follows its last frame, after `event.json`.

An item accepted in this run less than `delayed_after_s` ago is fresh: each camera's fresh items are announced
in order of acceptance, and a frame that is not stored yet blocks those after it. Older items, and those of an
earlier run, are the backlog: oldest first, at most `backlog_share` of the slots, marked `delayed`. So after
an outage new frames are delivered at once.

Failures
    StoreUnavailable, BrokerUnavailable   that peer's breaker opens; one trial at a time, with backoff; the
                                          item is tried again
    StoreRefused, BrokerRefused           the same with longer waits; an error in the log, and in `health()`
    RecordRejected                        the record is set aside with its reason; the others go on
    SpoolError                            the spool logs why; the change is tried again until it succeeds

An item that fails while others succeed is tried again after growing delays. It blocks only its camera's fresh
items, and only until it is delayed. A snapshot that is refused (too large) does not delay its announcement.
"""

from async_motion.delivery.circuit_breaker import DeliveryPace
from async_motion.delivery.delivery import Delivery
from async_motion.delivery.protocols import Outbox, PublishingBroker, Store
from async_motion.delivery.publisher import IsCurrent

__all__ = ["Delivery", "DeliveryPace", "IsCurrent", "Outbox", "PublishingBroker", "Store"]
