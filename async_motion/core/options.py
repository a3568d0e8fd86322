"""Options that the settings and the adapters share: each enumeration, and each default, is written once.

The settings read them from the file; adapters take them as plain values and do not import the settings.
"""

from __future__ import annotations

from typing import Final, Literal

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "text", "json"]

Transport = Literal["tcp", "udp"]
Decode = Literal["auto", "all", "keyframes"]
HwAccel = Literal["none", "vaapi", "videotoolbox", "cuda", "drm"]
Isolation = Literal["thread", "process"]
Speed = Literal["real", "max"]

Sensitivity = Literal["low", "medium", "high"]

ProfileSwitch = Literal["manual", "sun", "picture"]
"""What switches between a camera's day and night settings."""

WhenFull = Literal["drop_oldest", "drop_newest"]
"""Which records a full spool drops: those that have waited longest, or those that arrive."""

StoreCredentials = Literal["static", "env", "aws", "aws-secret"]
"""Where the keys of the S3 store come from: the settings, the environment, AWS's chain or secrets."""

MqttProtocol = Literal["5", "3.1.1"]
"""The version of MQTT."""

PathStyle = bool | Literal["auto"]
"""Whether the bucket is in the path of an S3 URL; "auto": in the host for AWS, else in the path."""

RemoteUserRole = Literal["none", "viewer", "admin"]
"""The rights on the page of users that a trusted proxy has authenticated."""

OnQuorumLoss = Literal["keep", "stop"]
"""What a worker does with its cameras while the fleet's leases cannot be renewed."""

BUCKET: Final = "motion"
REGION: Final = "us-east-1"

SPOOL_BYTES: Final = 2 * 1024**3
"""The maximum size of the spool, in bytes."""
SPOOL_AGE_S: Final = 7 * 86400.0
"""The maximum age of an item in the spool."""
DELAYED_AFTER_S: Final = 10.0
"""The age from which an item is delayed: it belongs to the backlog, and its announcement says so."""
BACKLOG_SHARE: Final = 0.5
"""The share (0..1) of the concurrent uploads that the backlog may use."""
UPLOADS: Final = 8
"""The number of concurrent uploads."""
UPDATE_EVERY_S: Final = 1.0
"""The minimum interval between two updates of a running event."""
INDEX_EVERY_S: Final = 300.0
"""The minimum interval between two writes of a file of the event index."""
CONNECT_TIMEOUT_S: Final = 3.0
PUT_TIMEOUT_S: Final = 15.0
KEEPALIVE_S: Final = 30.0
STATE_EVERY_S: Final = 15.0
"""The interval at which a camera's state is published."""

FPS: Final = 5.0
"""How many frames a second are judged."""
OPEN_TIMEOUT_S: Final = 10.0
STALL_TIMEOUT_S: Final = 5.0
MAX_PIXELS: Final = 33_554_432
"""The largest image that is decoded, in pixels."""
RING_BYTES: Final = 32 * 1024**2
RING_S: Final = 10.0
"""The bounds of the main stream's buffer."""
PROCESS_MEMORY: Final = 512 * 1024**2
"""The maximum private memory of a capture process, in bytes."""

OFF_DELAY_S: Final = 10.0
MAX_LENGTH_S: Final = 300.0
MAX_FRAMES: Final = 300
"""The maximum number of frames that an event keeps."""
PRE_S: Final = 1.0
PRE_BYTES: Final = 64 * 1024**2
"""The bounds of the pre-roll."""
