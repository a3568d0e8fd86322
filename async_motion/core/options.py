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

Role = Literal["viewer", "admin"]
"""The rights of a visitor of the page."""

RemoteUserRole = Literal["none", Role]
"""The rights on the page of users that a trusted proxy has authenticated."""

OnQuorumLoss = Literal["keep", "stop"]
"""What a worker does with its cameras while the fleet's leases cannot be renewed."""

BUCKET: Final = "motion"
REGION: Final = "us-east-1"
STORE_CREDENTIALS: Final[StoreCredentials] = "static"
ENCRYPTION: Final = "none"
"""The server-side encryption of objects: none, sse-s3, or sse-kms:KEY."""
PATH_STYLE: Final[PathStyle] = "auto"

MQTT_PORT: Final = 1883
MQTT_PROTOCOL: Final[MqttProtocol] = "5"
SLOWEST_BYTES_PER_S: Final = 32 * 1024
"""The slowest link to the broker that counts as alive: it extends the time-out of large payloads."""
BASE_TOPIC: Final = "async_motion"
DISCOVERY_PREFIX: Final = "homeassistant"

SPOOL_BYTES: Final = 2 * 1024**3
"""The maximum size of the spool, in bytes."""
SPOOL_AGE_S: Final = 7 * 86400.0
"""The maximum age of an item in the spool."""
WHEN_FULL: Final[WhenFull] = "drop_oldest"
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

LEASE_TTL_S: Final = 10.0
"""The time after which a lease expires that is not renewed."""
ON_QUORUM_LOSS: Final[OnQuorumLoss] = "keep"

DEMO_SOURCE: Final = "demo:"
"""The source of a synthetic camera, which the settings without cameras have."""
FPS: Final = 5.0
"""How many frames a second are judged."""
TRANSPORT: Final[Transport] = "tcp"
DECODE: Final[Decode] = "all"
HWACCEL: Final[HwAccel] = "none"
ISOLATION: Final[Isolation] = "thread"
SPEED: Final[Speed] = "real"
OPEN_TIMEOUT_S: Final = 10.0
STALL_TIMEOUT_S: Final = 5.0
DECODER_THREADS: Final = 1
MAX_PIXELS: Final = 33_554_432
"""The largest image that is decoded, in pixels."""
RING_BYTES: Final = 32 * 1024**2
RING_S: Final = 10.0
"""The bounds of the main stream's buffer."""
PROCESS_MEMORY: Final = 512 * 1024**2
"""The maximum private memory of a capture process, in bytes."""

SENSITIVITY: Final[Sensitivity] = "medium"
LEARNING_S: Final = 0.2
"""The time after the start for which nothing is reported."""
REST_S: Final = 20.0
"""The time after which an object that has not stirred becomes background."""
MIN_AREA: Final = 0.002
MAX_AREA: Final = 0.9
"""The bounds of a region's area, as shares (0..1) of the image."""
HORIZON: Final = 0.3
"""The horizon's distance from the top, as a share (0..1) of the image's height."""

CONFIRM: Final = (2, 3)
"""(M, N): an event starts with motion in M of the last N frames."""
COOL_DOWN_S: Final = 0.0
"""The minimum time between two events."""
KEEP_EVERY_S: Final = 1.0
"""The interval between two frames that an event keeps."""
JPEG_QUALITY: Final = 85
OFF_DELAY_S: Final = 10.0
MAX_LENGTH_S: Final = 300.0
MAX_FRAMES: Final = 300
"""The maximum number of frames that an event keeps."""
PRE_S: Final = 1.0
PRE_BYTES: Final = 64 * 1024**2
"""The bounds of the pre-roll."""
