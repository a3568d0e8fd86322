"""Options that the settings and the adapters share: each enumeration, and each default, written once.

The settings read these from the file; adapters take them as plain values and know no settings.
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
"""What switches between a camera's settings of the day and of the night."""

WhenFull = Literal["drop_oldest", "drop_newest"]
"""Which records go when the spool is full: those that wait longest, or those that arrive."""

StoreCredentials = Literal["static", "env", "aws"]
"""Where the keys of the S3 store come from: the settings, the environment, or AWS's chain."""

MqttProtocol = Literal["5", "3.1.1"]
"""The version of MQTT."""

PathStyle = bool | Literal["auto"]
"""Whether the bucket stands in the path of an S3 address; "auto": in the host for AWS, else in the path."""

RemoteUserRole = Literal["none", "viewer", "admin"]
"""What people may do on the page whom a trusted proxy names."""

OnQuorumLoss = Literal["keep", "stop"]
"""What a worker does with its cameras while the fleet's leases cannot be renewed."""

BUCKET: Final = "motion"
REGION: Final = "us-east-1"

SPOOL_BYTES: Final = 2 * 1024**3
"""What the spool holds at most."""
SPOOL_AGE_S: Final = 7 * 86400.0
"""How long the spool keeps an item at most."""
DELAYED_AFTER_S: Final = 10.0
"""The age from which an item is delayed: it belongs to the backlog, and its announcement says so."""
BACKLOG_SHARE: Final = 0.5
"""The part of the uploads at once (0..1) that the backlog may take."""
UPLOADS: Final = 8
"""How many uploads run at once."""
UPDATE_EVERY_S: Final = 1.0
"""How often, at most, a running event is published again."""
INDEX_EVERY_S: Final = 300.0
"""How often, at most, a file of the event index is rewritten."""
CONNECT_TIMEOUT_S: Final = 3.0
PUT_TIMEOUT_S: Final = 15.0
KEEPALIVE_S: Final = 30.0
STATE_EVERY_S: Final = 15.0
"""How often a camera's state is published."""

FPS: Final = 5.0
"""How many frames a second are judged."""
OPEN_TIMEOUT_S: Final = 10.0
STALL_TIMEOUT_S: Final = 5.0
MAX_PIXELS: Final = 33_554_432
"""The largest image that is decoded."""
RING_BYTES: Final = 32 * 1024**2
RING_S: Final = 10.0
"""The bounds of the main stream's buffer."""
PROCESS_MEMORY: Final = 512 * 1024**2
"""The private memory of a capture process, in bytes."""

OFF_DELAY_S: Final = 10.0
MAX_LENGTH_S: Final = 300.0
MAX_FRAMES: Final = 300
"""The most frames that an event keeps."""
PRE_S: Final = 1.0
PRE_BYTES: Final = 64 * 1024**2
"""The bounds of the pre-roll."""
