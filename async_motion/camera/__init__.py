"""One camera, from its source to the spool.

    supervisor     keeps the camera connected
    unit           the life of one connection; the settings in force
    watcher        judges frames, follows the event, chooses the stills
    recorder       encodes the chosen frames and passes them to the spool, in order
    queues         the two queues in which frames wait
    detector_host  the detector and its settings; `detector_state` keeps what it has learned
    day_night      the profiles for day and night, and what switches them; `sun` has its elevation
    spec           the plain values; `offload` runs blocking work

It declares the protocols of its source, outbox and observer; `app.units` passes the objects.
"""
