"""Settings to objects, and the service that supervises them.

    service                  builds the parts, supervises them, stops them
    cameras, units           the running cameras; the parts of one camera
    build, buckets, pages    broker, delivery, reporter; the bucket's readers; the views of the web pages
    specs                    settings as the plain values that each package takes
    reload, editor           a change of settings while the service runs
    outlet                   store and delivery, replaceable as a pair
    fleet, fleet_broker      one worker of a fleet, and its connections to the broker
    liveness, health_socket  reports to the supervisor and to `async-motion health`
    certificates, disks, upkeep  figures for the state, the metrics and the health page

Commands use the others: `probe` (check), `backup`, `fleet_overview` (fleet), `inspect` and `spool_delivery`
(spool), `rights` (policy).
"""
