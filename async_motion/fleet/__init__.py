"""Many hosts, one instance: leases over NATS JetStream decide which worker owns a camera.

    worker       which cameras this worker owns, and when it gives them up
    placement    which worker should own which camera; pure
    leases       create, renew and release leases by compare-and-set, with the invariants
    nats_bucket  the leases' bucket in NATS
    guard        frees a camera when the event loop does not
    capacity     what this machine can carry, and what a camera costs
    clock        a clock that also runs during suspend

`app.fleet` connects a worker to the cameras and the broker.
"""
