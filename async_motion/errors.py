"""Every error that async_motion raises on purpose.

    AsyncMotionError
    ├── SettingsError            invalid settings; the text names file, line, key and what was expected
    │   └── SettingsConflict     the settings file has changed since it was read
    ├── UsageError               invalid arguments of a command; the text says what was expected
    ├── TlsFileError             an unusable certificate or key file; adapters raise it as their own error
    ├── SecretUnavailable        a secret in AWS Secrets Manager cannot be read; raised as TlsFileError is
    ├── FrameShapeError          a detector got a frame of another shape: create a new detector
    ├── TransientError           may pass: retry with backoff
    │   ├── CameraUnavailable
    │   │   └── CameraRefused    401, 404, an unreadable stream: retry slowly, a person must act
    │   ├── StoreUnavailable
    │   │   └── StoreRefused     wrong credentials, missing bucket, missing right: pause, probe, go on
    │   ├── BrokerUnavailable
    │   │   ├── BrokerRefused    login or publish refused by the broker: pause, probe, go on
    │   │   └── BrokerNotReady   one camera's own connection is not ready: others go on
    │   └── LeaseUnavailable     the fleet's leases cannot be reached, or have no quorum
    ├── LeaseLost                another worker has the lease, or it has expired: stop the camera
    ├── ImageError               an image cannot be decoded or encoded: drop and count it
    ├── RecordRejected           this one record is at fault: set it aside, go on with the next
    ├── UnreadableObject         an object in the bucket does not match its key: skip and count it
    └── SpoolError               the spool cannot write or read records (disk full, no right, I/O error)

Adapters translate at their edge with ``raise … from exc``. No error text carries a secret: URLs pass through
`async_motion.core.names.redact_url` first.
"""

from __future__ import annotations


class AsyncMotionError(Exception):
    """The root. The text of an error that users may see says what, where and what to do."""


class SettingsError(AsyncMotionError):
    """The settings are invalid. `problems` holds one line each: ``file:line: key: what, expected``."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class SettingsConflict(SettingsError):
    """The settings file has changed since it was read: writing would lose that change."""


class UsageError(AsyncMotionError):
    """The arguments of a command are invalid. `problems` holds one line each."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class TlsFileError(AsyncMotionError):
    """A certificate or key file cannot be used; the text begins with the key, such as ``ca_file:``."""


class SecretUnavailable(AsyncMotionError):
    """A secret in AWS Secrets Manager cannot be read; the text names the secret."""


class FrameShapeError(AsyncMotionError):
    """A detector got a frame of another shape (H, W) than the one that it has learned."""


class TransientError(AsyncMotionError):
    """A failure that may pass by itself. `retry_after_s` is the peer's requested delay, None without one."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class CameraUnavailable(TransientError):
    """A camera cannot be opened, has stalled, or has disconnected."""


class CameraRefused(CameraUnavailable):
    """A camera answers, but refuses (401, 404, unreadable): a person must fix the settings or the camera."""


class StoreUnavailable(TransientError):
    """The store cannot be reached, timed out, or failed. A put may or may not have happened."""


class StoreRefused(StoreUnavailable):
    """The store refuses us, not the record: credentials, bucket, rights or our clock."""


class BrokerUnavailable(TransientError):
    """The broker cannot be reached, or did not acknowledge. A publish may or may not have happened."""


class BrokerRefused(BrokerUnavailable):
    """The broker refuses us: login, access list, quota, packet size."""


class BrokerNotReady(BrokerUnavailable):
    """In a fleet: this camera's own connection to the broker is not ready, though the worker's is."""


class ImageError(AsyncMotionError):
    """An image cannot be decoded or encoded. Only this frame is at fault."""


class RecordRejected(AsyncMotionError):
    """The store refuses this record permanently, or the record cannot be read.

    `reason` is the cause without the record's key, so that it is equal for all records with this cause.
    """

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason or message


class UnreadableObject(AsyncMotionError):
    """An object in the bucket does not match its key: damaged, of another version, or foreign."""


class SpoolError(AsyncMotionError):
    """The spool cannot write or read records."""


class LeaseUnavailable(TransientError):
    """The fleet's leases cannot be reached, or their servers have no quorum. A write may have happened."""


class LeaseLost(AsyncMotionError):
    """Another worker has a camera's lease, or it has expired: this worker must stop the camera."""
