"""Delivery: from the spool to the store, and from the store to the subscribers.

    spool ──take_uploads──▶ put ──▶ mark_stored ──▶ spool ──take_…_announcements──▶ publish ──▶ remove
            (store's breaker)                              (broker's breaker)

    delivery         what the parts share, and the tasks that run them
    dispatch         starts work when there is some, a slot for it, and the breaker lets it pass
    uploader         frames and summaries to the store
    publisher        announcements and phases to the broker
    snapshots        which frame a camera shows
    retries          what happens to an item that failed
    circuit_breaker  whether a peer may be called

The two halves meet only in the spool's tables, so that each peer may be away without the other: without a
store nothing is announced; without a broker frames are stored, marked, and announced later without a second
put. The order is the promise: a frame is announced after the store has confirmed it and after the spool
knows; it leaves the spool after the broker has confirmed the announcement. A crash between any two steps
repeats the later ones, with the same key and the same ids.

For one frame, in this order: the object; `snapshot/attributes`, `snapshot` and `snapshot/frame` (retained;
if it is the best frame so far of its camera's newest event); `frame`; then, if due, an update on `event`. An
event's start follows its opening frame; its end follows its last frame, after `event.json`.

What was accepted in this run and less than `delayed_after_s` ago is fresh: it is announced in the order of
acceptance for each camera, and a frame that is not stored yet blocks those behind it. What is older, or left
from an earlier run, is the backlog: oldest first, at most `backlog_share` of the slots, marked `delayed`. So
after an outage new frames pass at once.

Trouble
    StoreUnavailable, BrokerUnavailable   that peer's breaker opens; one trial at a time, backoff; the item
                                          comes again
    StoreRefused, BrokerRefused           the same, slowly; an error in the log, and in `health()`
    RecordRejected                        the record is set aside with its reason; the others go on
    SpoolError                            the spool logs why; the note is made again until it holds

An item that fails while its neighbours pass is tried later and later, and blocks only its camera's fresh
items, until it is delayed. A snapshot that is refused (too large) does not hold up its announcement.
"""

from async_motion.delivery.circuit_breaker import DeliveryPace
from async_motion.delivery.delivery import Delivery
from async_motion.delivery.protocols import Outbox, PublishingBroker, Store
from async_motion.delivery.publisher import IsCurrent

__all__ = ["Delivery", "DeliveryPace", "IsCurrent", "Outbox", "PublishingBroker", "Store"]
