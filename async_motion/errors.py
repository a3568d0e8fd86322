"""Every error that async_motion raises on purpose.

    AsyncMotionError
    ├── SettingsError            the settings are wrong; the text names file, line, key and what was expected
    │   └── SettingsConflict     their file has changed since it was read
    ├── UsageError               what was given to a command cannot be used; the text says what was expected
    ├── TlsFileError             a certificate or key file cannot be used: adapters say it as their own error
    ├── FrameShapeError          a detector was given a picture of another shape: start a new detector
    ├── TransientError           trouble that may pass: wait, with backoff, and try again
    │   ├── CameraUnavailable
    │   │   └── CameraRefused    401, 404, an unreadable stream: retried, but slowly: a person must act
    │   ├── StoreUnavailable
    │   │   └── StoreRefused     wrong credentials, missing bucket, missing right: pause, probe, go on
    │   ├── BrokerUnavailable
    │   │   └── BrokerRefused    login or publish refused by the broker: pause, probe, go on
    │   └── LeaseUnavailable     the fleet's leases cannot be reached, or have no quorum
    ├── LeaseLost                another worker has the camera, or the lease has expired: stop it
    ├── ImageError             a picture cannot be decoded or encoded: it is left out and counted
    ├── RecordRejected           this one record is at fault: set it aside, never stop the line
    ├── UnreadableObject         an object in the bucket is not what its key says: skip it, count it
    └── SpoolError               the spool cannot take or give records (disk full, no right, I/O error)

Adapters translate at their edge with ``raise … from exc``. No text of any of these carries a secret:
URLs pass through `async_motion.core.names.redact_url` first.
"""

from __future__ import annotations


class AsyncMotionError(Exception):
    """The root: whatever a user may meet has a text that says what, where and what to do."""


class SettingsError(AsyncMotionError):
    """The settings are wrong. `problems` holds one line for each, ``file:line: key: what, expected``."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class SettingsConflict(SettingsError):
    """The settings file has changed since it was read: what would be written is for another one."""


class UsageError(AsyncMotionError):
    """What was given to a command cannot be used: `problems` holds one line for each."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class TlsFileError(AsyncMotionError):
    """A certificate or key file cannot be used; the text begins with the key, such as ``ca_file:``."""


class FrameShapeError(AsyncMotionError):
    """A detector was given a picture of another shape than the one that it has learned."""


class TransientError(AsyncMotionError):
    """Trouble that may pass by itself. `retry_after_s` is the other side's own wish, where it gave one."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class CameraUnavailable(TransientError):
    """A camera cannot be opened, stalls, or broke off."""


class CameraRefused(CameraUnavailable):
    """A camera answers, and says no (401, 404, unreadable): the settings or the camera need a person."""


class StoreUnavailable(TransientError):
    """The store cannot be reached, timed out, or is in trouble. A put may or may not have happened."""


class StoreRefused(StoreUnavailable):
    """The store refuses us, not the record: credentials, bucket, rights or our clock."""


class BrokerUnavailable(TransientError):
    """The broker cannot be reached, or did not acknowledge. A publish may or may not have happened."""


class BrokerRefused(BrokerUnavailable):
    """The broker refuses us: login, access list, quota, packet size."""


class ImageError(AsyncMotionError):
    """A picture cannot be made, decoded or encoded: this one frame is at fault, the next may be well."""


class RecordRejected(AsyncMotionError):
    """The store refuses this record for good, or it cannot be read.

    `reason` is why, without the record's key: the same for every record that meets it.
    """

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason or message


class UnreadableObject(AsyncMotionError):
    """An object in the bucket is not what its key says: damaged, of another version, or made by others."""


class SpoolError(AsyncMotionError):
    """The spool cannot take or give records."""


class LeaseUnavailable(TransientError):
    """The fleet's leases cannot be reached, or their servers have no quorum. A write may have happened."""


class LeaseLost(AsyncMotionError):
    """A lease on a camera is another's, or has expired: this worker must stop the camera."""
