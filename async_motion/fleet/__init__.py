"""Many hosts, one instance: leases over NATS JetStream decide which worker owns a camera."""
