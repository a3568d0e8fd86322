"""The tree of settings. Attribute names are the keys of the file; the defaults are defined here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    PrivateAttr,
    SecretStr,
    model_validator,
)

from async_motion.core import options
from async_motion.core.events.selection import Keep
from async_motion.core.options import (
    Decode,
    HwAccel,
    Isolation,
    LogFormat,
    LogLevel,
    MqttProtocol,
    OnQuorumLoss,
    PathStyle,
    ProfileSwitch,
    RemoteUserRole,
    Sensitivity,
    Speed,
    StoreCredentials,
    Transport,
    WhenFull,
)
from async_motion.settings.addresses import (
    Network,
    check_endpoint,
    check_host,
    check_networks,
    check_page_url,
    check_public_endpoint,
    check_servers,
    check_source,
    hostname,
)
from async_motion.settings.quantities import (
    check_capacity,
    duration_between,
    number_between,
    share_between,
    size_between,
    whole_between,
)
from async_motion.settings.s3 import (
    check_bucket,
    check_encryption,
    check_path_style,
    check_prefix,
    check_region,
)
from async_motion.settings.secrets import names_in, secrets_in
from async_motion.settings.shapes import (
    Confirm,
    Frames,
    check_confirm,
    check_frames,
    check_polygon,
    check_polygons,
)
from async_motion.settings.values import (
    EnvText,
    check_camera_name,
    check_credential,
    check_file,
    check_flag,
    check_former_name,
    check_instance,
    check_name,
    check_protocol,
    check_spool_path,
    check_text,
    check_topic,
    one_of,
    shown,
    structure,
)

PLACEHOLDER = "change-me"
"""The secret key in the shipped settings. It is no real secret, so logs may show it."""

Flag = Annotated[bool, PlainValidator(check_flag)]
OptionalText = Annotated[str | None, PlainValidator(lambda value: check_text(value) or None)]
OptionalCredential = Annotated[str | None, PlainValidator(check_credential)]
OptionalFile = Annotated[Path | None, PlainValidator(check_file)]
OptionalSecret = Annotated[SecretStr | None, BeforeValidator(check_credential)]
Topic = Annotated[str, PlainValidator(check_topic)]
Port = Annotated[int, whole_between(1, 65535)]
Quality = Annotated[int, whole_between(1, 100)]
Polygon = tuple[tuple[float, float], ...]


class Section(BaseModel):
    """A section of the tree: frozen, no unknown keys, a blank value means the default."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    keeps_blank: ClassVar[frozenset[str]] = frozenset()
    """Keys for which a blank value is not the default."""

    @model_validator(mode="before")
    @classmethod
    def _blank_is_default(cls, value: Any) -> Any:
        if isinstance(value, Section):
            return value
        value = structure(value)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise ValueError(f"{shown(value)}, expected a section with keys of its own")
        return {
            str(key): item
            for key, item in value.items()
            if (item is not None and not (isinstance(item, EnvText) and not item)) or key in cls.keeps_blank
        }


OptionalLevel = Annotated[LogLevel | None, one_of(LogLevel)]


class LogLevelSettings(Section):
    """Levels of single packages. None: `log.level`."""

    app: OptionalLevel = None
    broker: OptionalLevel = None
    camera: OptionalLevel = None
    capture: OptionalLevel = None
    delivery: OptionalLevel = None
    fleet: OptionalLevel = None
    home_assistant: OptionalLevel = None
    spool: OptionalLevel = None
    status: OptionalLevel = None
    store: OptionalLevel = None
    web: OptionalLevel = None


class LogSettings(Section):
    level: Annotated[LogLevel, one_of(LogLevel)] = "info"
    levels: LogLevelSettings = LogLevelSettings()
    format: Annotated[LogFormat, one_of(LogFormat)] = "auto"


class StoreTimeouts(Section):
    connect: Annotated[float, duration_between("100ms", "2min")] = options.CONNECT_TIMEOUT_S
    put: Annotated[float, duration_between("1s", "10min")] = options.PUT_TIMEOUT_S


class MinioSettings(Section):
    """The S3 store. `endpoint` None: the embedded directory store is used instead."""

    keeps_blank = frozenset({"access_key", "secret_key"})

    endpoint: Annotated[str | None, PlainValidator(check_endpoint)] = None
    access_key: OptionalCredential = "uploader"
    secret_key: OptionalSecret = SecretStr(PLACEHOLDER)
    session_token: OptionalSecret = None
    secure: Flag = False
    ca_file: OptionalFile = None
    cert_file: OptionalFile = None
    key_file: OptionalFile = None
    region: Annotated[str, PlainValidator(check_region)] = options.REGION
    bucket: Annotated[str, PlainValidator(check_bucket)] = options.BUCKET
    prefix: Annotated[str, PlainValidator(check_prefix)] = ""
    create_bucket: Flag = True
    path_style: Annotated[PathStyle, PlainValidator(check_path_style)] = options.PATH_STYLE
    presign: Annotated[float | None, duration_between("1s", "7d")] = None
    public_endpoint: Annotated[str | None, PlainValidator(check_public_endpoint)] = None
    credentials: Annotated[StoreCredentials, one_of(StoreCredentials)] = options.STORE_CREDENTIALS
    secret_name: OptionalText = None
    concurrency: Annotated[int, whole_between(1, 64, "uploads at once")] = options.UPLOADS
    timeout: StoreTimeouts = StoreTimeouts()
    tags: Flag = False
    encryption: Annotated[str, PlainValidator(check_encryption)] = options.ENCRYPTION


class KeepSettings(Section):
    """Bounds on what the directory store keeps: days, bytes, free bytes on disk. None: no bound."""

    days: Annotated[int | None, whole_between(1, 36500, "days")] = None
    max_bytes: Annotated[int | None, size_between("1MiB", "1000TiB")] = None
    min_free: Annotated[int | None, size_between("1MiB", "1000TiB")] = None


class DirectorySettings(Section):
    path: Annotated[Path, PlainValidator(check_file)] = Path("data/objects")
    keep: KeepSettings = KeepSettings()


class TlsSettings(Section):
    enabled: Flag = False
    ca_file: OptionalFile = None
    cert_file: OptionalFile = None
    key_file: OptionalFile = None
    insecure: Flag = False


class DiscoverySettings(Section):
    enabled: Flag = True
    prefix: Topic = options.DISCOVERY_PREFIX
    preview_every: Annotated[float | None, duration_between("1s", "1h")] = None
    latest_version_topic: Annotated[str | None, PlainValidator(check_topic)] = None


class SnapshotSettings(Section):
    enabled: Flag = True
    max_width: Annotated[int, whole_between(64, 8192, "pixels")] = 1280
    quality: Quality = 80


class MqttSettings(Section):
    """The broker. `host` None: the embedded broker is used."""

    host: Annotated[str | None, PlainValidator(check_host)] = None
    port: Port = options.MQTT_PORT
    username: OptionalCredential = None
    password: OptionalSecret = None
    client_id: OptionalText = None
    keepalive: Annotated[float, duration_between("5s", "18h")] = options.KEEPALIVE_S
    protocol: Annotated[MqttProtocol, PlainValidator(check_protocol)] = options.MQTT_PROTOCOL
    base_topic: Topic = options.BASE_TOPIC
    update_every: Annotated[float, duration_between("100ms", "1min")] = options.UPDATE_EVERY_S
    state_every: Annotated[float, duration_between("1s", "1h")] = options.STATE_EVERY_S
    tls: TlsSettings = TlsSettings()
    discovery: DiscoverySettings = DiscoverySettings()
    snapshot: SnapshotSettings = SnapshotSettings()
    frigate_topic: Annotated[str | None, PlainValidator(check_topic)] = None


class IndexSettings(Section):
    """The event index in the bucket."""

    every: Annotated[float, duration_between("10s", "1h")] = options.INDEX_EVERY_S


class SpoolSettings(Section):
    """The spool. `path` is text: the name of a file, or ``:memory:``."""

    path: Annotated[str, PlainValidator(check_spool_path)] = "data/spool.db"
    max_bytes: Annotated[int, size_between("1MiB", "1000TiB")] = options.SPOOL_BYTES
    max_age: Annotated[float, duration_between("1s", "3650d")] = options.SPOOL_AGE_S
    when_full: Annotated[WhenFull, one_of(WhenFull)] = options.WHEN_FULL
    backlog_share: Annotated[float, share_between("1%", "100%")] = options.BACKLOG_SHARE
    delayed_after: Annotated[float, duration_between("1s", "1h")] = options.DELAYED_AFTER_S


class WebTlsSettings(Section):
    """TLS of the pages. With `ca_file`, clients must present a certificate signed by that authority."""

    cert_file: OptionalFile = None
    key_file: OptionalFile = None
    ca_file: OptionalFile = None


class ReaderSettings(Section):
    """A key that may read the bucket, for the pages. None: the uploader's key."""

    access_key: OptionalText = None
    secret_key: OptionalSecret = None


class WebSettings(Section):
    """The pages. `remote_user` is the role of users whom a trusted proxy has authenticated."""

    host: Annotated[str, PlainValidator(check_host)] = "127.0.0.1"
    port: Port = 8585
    url: Annotated[str | None, PlainValidator(check_page_url)] = None
    token: OptionalSecret = None
    viewer_token: OptionalSecret = None
    trusted_proxies: Annotated[tuple[Network, ...], BeforeValidator(check_networks)] = ()
    remote_user: Annotated[RemoteUserRole, one_of(RemoteUserRole)] = "none"
    max_viewers: Annotated[int, whole_between(1, 64, "viewers")] = 4
    store: ReaderSettings = ReaderSettings()
    tls: WebTlsSettings = WebTlsSettings()


class CaptureSettings(Section):
    transport: Annotated[Transport, one_of(Transport)] = options.TRANSPORT
    decode: Annotated[Decode, one_of(Decode)] = options.DECODE
    hwaccel: Annotated[HwAccel, one_of(HwAccel)] = options.HWACCEL
    open_timeout: Annotated[float, duration_between("500ms", "2min")] = options.OPEN_TIMEOUT_S
    stall_timeout: Annotated[float, duration_between("500ms", "5min")] = options.STALL_TIMEOUT_S
    max_pixels: Annotated[int, whole_between(4096, 268435456, "pixels")] = options.MAX_PIXELS
    speed: Annotated[Speed, one_of(Speed)] = options.SPEED
    loop: Flag = True
    ring_bytes: Annotated[int, size_between("1MiB", "4GiB")] = options.RING_BYTES
    ring_seconds: Annotated[float, duration_between("1s", "5min")] = options.RING_S
    threads: Annotated[int, whole_between(1, 16, "threads")] = options.DECODER_THREADS
    isolation: Annotated[Isolation, one_of(Isolation)] = options.ISOLATION
    process_memory: Annotated[int, size_between("192MiB", "64GiB")] = options.PROCESS_MEMORY


class LocationSettings(Section):
    """The cameras' location, for sunrise and sunset: degrees, north and east positive."""

    latitude: Annotated[float | None, number_between(-90, 90, "degrees")] = None
    longitude: Annotated[float | None, number_between(-180, 180, "degrees")] = None


class FleetTlsSettings(Section):
    """TLS to the NATS servers that hold the leases, for `tls://`."""

    ca_file: OptionalFile = None
    cert_file: OptionalFile = None
    key_file: OptionalFile = None


class FleetSection(Section):
    """A fleet: many hosts, one instance; off without `servers`. `capacity` is in cores; None: measured."""

    servers: Annotated[tuple[str, ...], BeforeValidator(check_servers)] = ()
    credentials: OptionalFile = None
    tls: FleetTlsSettings = FleetTlsSettings()
    name: Annotated[str, PlainValidator(check_instance)] = Field(default_factory=hostname)
    ttl: Annotated[float, duration_between("1s", "5min")] = options.LEASE_TTL_S
    capacity: Annotated[float | None, PlainValidator(check_capacity)] = None
    on_quorum_loss: Annotated[OnQuorumLoss, one_of(OnQuorumLoss)] = options.ON_QUORUM_LOSS


class ZoneSettings(Section):
    name: OptionalText = None
    polygon: Annotated[Polygon, BeforeValidator(check_polygon)]
    sensitivity: Annotated[Sensitivity | None, one_of(Sensitivity)] = None
    min_area: Annotated[float | None, share_between("0%", "100%")] = None


class DetectSettings(Section):
    enabled: Flag = True
    fps: Annotated[float, number_between(0.1, 60, "frames a second")] = options.FPS
    sensitivity: Annotated[Sensitivity, one_of(Sensitivity)] = options.SENSITIVITY
    threshold: Annotated[float | None, number_between(1, 255, "grey levels")] = None
    noise_factor: Annotated[float | None, number_between(0, 10, "times a pixel's noise")] = None
    strong_share: Annotated[float | None, share_between("1%", "100%")] = None
    unrest_factor: Annotated[float | None, number_between(1, 100, "times as many")] = None
    learning: Annotated[float, duration_between("0s", "5min")] = options.LEARNING_S
    rest: Annotated[float, duration_between("2s", "1h")] = options.REST_S
    min_area: Annotated[float, share_between("0%", "100%")] = options.MIN_AREA
    min_area_far: Annotated[float | None, share_between("0%", "100%")] = None
    horizon: Annotated[float, share_between("0%", "90%")] = options.HORIZON
    max_area: Annotated[float, share_between("0.1%", "100%")] = options.MAX_AREA
    masks: Annotated[tuple[Polygon, ...], BeforeValidator(check_polygons)] = ()
    zones: Annotated[
        Mapping[Annotated[str, AfterValidator(check_name)], ZoneSettings], BeforeValidator(structure)
    ] = {}


class NightSettings(Section):
    """Settings that override `detect` at night; None: as by day."""

    sensitivity: Annotated[Sensitivity | None, one_of(Sensitivity)] = None
    threshold: Annotated[float | None, number_between(1, 255, "grey levels")] = None
    min_area: Annotated[float | None, share_between("0%", "100%")] = None

    @property
    def is_blank(self) -> bool:
        return self.sensitivity is None and self.threshold is None and self.min_area is None


class ProfileSettings(Section):
    switch: Annotated[ProfileSwitch, one_of(ProfileSwitch)] = "manual"
    night: NightSettings = NightSettings()


class EventSettings(Section):
    frames: Annotated[Frames, BeforeValidator(check_frames)] = Frames(Keep.EVERY, options.KEEP_EVERY_S)
    max_frames: Annotated[int, whole_between(1, 100000, "frames")] = options.MAX_FRAMES
    pre: Annotated[float, duration_between("0s", "1min")] = options.PRE_S
    pre_bytes: Annotated[int, size_between("1MiB", "4GiB")] = options.PRE_BYTES
    confirm: Annotated[Confirm, BeforeValidator(check_confirm)] = Confirm(*options.CONFIRM)
    off_delay: Annotated[float, duration_between("0s", "1h")] = options.OFF_DELAY_S
    max_length: Annotated[float, duration_between("1s", "24h")] = options.MAX_LENGTH_S
    cool_down: Annotated[float, duration_between("0s", "24h")] = options.COOL_DOWN_S


class JpegSettings(Section):
    quality: Quality = options.JPEG_QUALITY
    max_width: Annotated[int | None, whole_between(64, 16384, "pixels")] = None


class CameraSettings(Section):
    """A camera. Its sources are secrets: they hold passwords."""

    name: OptionalText = None
    area: OptionalText = None
    renamed_from: Annotated[str | None, PlainValidator(check_former_name)] = None
    enabled: Flag = True
    source: Annotated[SecretStr, BeforeValidator(check_source)]
    record_source: Annotated[SecretStr | None, BeforeValidator(check_source)] = None
    capture: CaptureSettings = CaptureSettings()
    detect: DetectSettings = DetectSettings()
    profiles: ProfileSettings = ProfileSettings()
    event: EventSettings = EventSettings()
    jpeg: JpegSettings = JpegSettings()


def _cameras(value: object) -> object:
    """Return the cameras as written, or the demo camera if there are none."""
    value = structure(value)
    return value or {"demo": {"source": options.DEMO_SOURCE}}


class Settings(Section):
    """All settings. Create them with `load`, which also checks the values against each other."""

    instance: Annotated[str, PlainValidator(check_instance)] = Field(default_factory=hostname)
    shutdown_grace: Annotated[float, duration_between("0s", "10min")] = 10.0
    log: LogSettings = LogSettings()
    minio: MinioSettings = MinioSettings()
    directory: DirectorySettings = DirectorySettings()
    mqtt: MqttSettings = MqttSettings()
    spool: SpoolSettings = SpoolSettings()
    index: IndexSettings = IndexSettings()
    web: WebSettings = WebSettings()
    location: LocationSettings = LocationSettings()
    fleet: FleetSection = FleetSection()
    cameras: Annotated[
        Mapping[Annotated[str, AfterValidator(check_camera_name)], CameraSettings], BeforeValidator(_cameras)
    ] = {"demo": CameraSettings(source=SecretStr(options.DEMO_SOURCE))}

    _origin: str = PrivateAttr(default="defaults")
    _secret_names: frozenset[str] = PrivateAttr(default=frozenset())

    @property
    def origin(self) -> str:
        """The source of the settings as text: the file, and the names of the variables in use."""
        return self._origin

    @property
    def secret_names(self) -> frozenset[str]:
        """The names of all secrets in AWS Secrets Manager that the settings refer to."""
        named = {self.minio.secret_name} if self.minio.secret_name is not None else set()
        return self._secret_names | named

    def secrets(self) -> frozenset[str]:
        """Return every text that no log may show: keys, passwords and tokens, also those inside sources."""
        return frozenset(text for _, text in self.secret_places())

    def secret_places(self) -> list[tuple[str, str]]:
        """Return each secret as (dotted key, text)."""
        return [(place, text) for place, text in secrets_in(self) if text not in ("", PLACEHOLDER)]

    def names(self) -> frozenset[str]:
        """Return every text that is not secret: names, hosts, addresses, topics."""
        return frozenset(names_in(self))
