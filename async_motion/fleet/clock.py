"""The clock of leases: it also runs while the machine is suspended.

`time.monotonic` stops during suspend: a worker would wake up and trust a lease that another worker has held
for an hour. On Linux CLOCK_BOOTTIME is used; elsewhere the monotonic clock.
"""

from __future__ import annotations

import time

_CLOCK = getattr(time, "CLOCK_BOOTTIME", None)


def boottime() -> float:
    """Return the seconds since boot, including suspend where the system supports it."""
    return time.clock_gettime(_CLOCK) if _CLOCK is not None else time.monotonic()
