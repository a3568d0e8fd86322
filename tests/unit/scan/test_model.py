from __future__ import annotations

import json
from datetime import timedelta

import pytest

from async_motion.core.model import EndReason
from async_motion.scan import Recording, ScanOutcome
from async_motion.scan.model import digest_of, event_line
from tests.support.records import end_of, make_event, make_record

PORCH = Recording(place="/rec/a.mp4", name="a.mp4", size=1, camera="porch")


def test_an_outcome_comes_back_as_it_was() -> None:
    event = end_of(make_event()).event
    stills = [make_record(event, seq, score=0.1 * seq).info for seq in range(3)]
    began = event.started_at - timedelta(seconds=30)
    line = event_line(event, stills, started_at=began, source="name")
    outcome = ScanOutcome(recording=PORCH, events=(line,), lines=("{}",), seconds=3.5, frames=9, damaged=1)
    back = ScanOutcome.of_payload(PORCH, json.loads(json.dumps(outcome.payload())))
    assert back.remembered
    assert back.payload() == outcome.payload()
    assert back.events == outcome.events
    with pytest.raises(KeyError):
        ScanOutcome.of_payload(PORCH, {"events": []})


@pytest.mark.parametrize(
    "bad",
    [
        {"event_id": "../../etc"},
        {"event_id": "/etc"},
        {"event_id": None},
        {"camera": "../.."},
        {"camera": "yard"},
        {"stills": [{"seq": "1"}]},
        {"stills": [{"seq": -2}]},
    ],
)
def test_an_outcome_names_only_its_own_outputs(bad: dict[str, object]) -> None:
    """A marker comes from the bucket, and another scan removes the folders and keys that it names."""
    event = end_of(make_event()).event
    line = event_line(event, [], started_at=event.started_at, source="name")
    payload = ScanOutcome(recording=PORCH, events=({**line, **bad},)).payload()
    with pytest.raises((TypeError, ValueError)):
        ScanOutcome.of_payload(PORCH, payload)


def test_a_place_need_not_be_utf_8() -> None:
    names = {
        Recording(place=place, name="", size=1, camera="porch").digest for place in ("/\udcff", "/\udcfe")
    }
    assert len(names) == 2


def test_an_event_is_told_in_seconds_of_the_file() -> None:
    event = end_of(make_event(), after_s=5.0).event
    line = event_line(event, [], started_at=event.started_at - timedelta(seconds=30), source="option")
    assert (line["begin_s"], line["end_s"], line["duration_s"]) == (30.0, 35.0, 5.0)
    assert (line["best"], line["frames"], line["time_from"]) == (None, 0, "option")
    assert line["reason"] in set(EndReason)


def test_a_recording_is_known_by_its_place() -> None:
    assert not PORCH.is_remote
    bucket = Recording(place="s3://b/a.mp4", name="s3://b/a.mp4", size=1, camera="porch")
    assert bucket.is_remote
    assert bucket.digest != PORCH.digest
    assert len(PORCH.digest) == 32


def test_a_digest_is_the_same_in_every_process() -> None:
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    assert digest_of([1]) != digest_of([2])
