"""Many hosts, one instance: leases over NATS JetStream decide which worker owns a camera.

    worker       which cameras this worker should own
    bucket_view  what this worker sees of the others
    settling     when this worker may take cameras, after its start and after an outage
    placement    which worker should own which camera; pure
    holder       the cameras that this worker owns: acquire, renew, fence, give up
    leases       create, renew and release leases by compare-and-set, with the invariants
    nats_bucket  the leases' bucket in NATS
    report       what a worker says of itself
    guard        frees a camera when the event loop does not
    capacity     what this machine can carry, and what a camera costs
    clock        a clock that also runs during suspend

`app.fleet` connects a worker to the cameras and the broker.
"""
