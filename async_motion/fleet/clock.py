"""The clock of leases: seconds that also count while the machine sleeps.

`time.monotonic` stands still in suspend, so that a worker would wake up and believe in a lease that another
worker has had for an hour. CLOCK_BOOTTIME does not (Linux); elsewhere the monotonic clock has to serve.
"""

from __future__ import annotations

import time

_CLOCK = getattr(time, "CLOCK_BOOTTIME", None)


def boottime() -> float:
    """Return the seconds since the boot, sleep included, where the system can tell."""
    return time.clock_gettime(_CLOCK) if _CLOCK is not None else time.monotonic()
