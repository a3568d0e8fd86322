"""Turn cameras into motion events: frames in a bucket, their keys over MQTT."""

__version__ = "0.1.0"
