"""Fault injection around the real service: no accepted record may be lost.

    python -m tests.faults --seed 7 --minutes 10       a seeded mix; the same seed breaks the same things
    python -m tests.faults --list                      what can be broken
    python -m pytest tests/faults -m faults            the short mix, and each fault that needs a stage of its
    own

    clip ──▶ service (a process) ──▶ proxy ──▶ SeaweedFS ◀────────── fetch ──┐
               │        │  └───────▶ proxy ──▶ mosquitto ──▶ subscriber ──▶ oracle
             spool    witness file ──────────────────────────────────────────┘

`witness` runs the service and records, outside the spool, for which frames `accept` has returned and which
announcements the broker has acknowledged. `oracle` compares that with what subscribers received and what is
in the bucket. `stage` builds all of it, `breaking` is the catalogue of faults, `mix` draws from it.
"""
