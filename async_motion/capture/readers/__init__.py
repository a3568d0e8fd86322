"""One reader for each kind of source: video, stills, USB, demo.

A reader is a callable `reader(sink, clock)`. It blocks in a thread of its own and reads one connection:

- Call `sink.reader_opened` once the source is open, and `sink.reader_progress` for all that is new. Without
  progress for `stall_timeout_s` the thread is abandoned; a wait in `sink.reader_wait` is no stall.
- Choose `spec.fps` frames a second, refuse more than `spec.max_pixels`, and hand each `Frame` to
  `sink.reader_offer`. Its two times come from `clock.stamp`.
- Return when the source has ended, when `sink.stopping`, or when `reader_offer` returns False. Close all that
  was opened.
- Raise CameraUnavailable for what may pass (retried with backoff), CameraRefused where an operator must act.
  No error text holds a secret.
- Open network connections with `capture.connect` and `spec.sockets`: a fleet ends them from another thread.

`sink` is a `FrameSink` (`capture.handover`), in a thread of the service or in a capture process. `usb` is the
shortest reader; `stills` paces itself by `clock`.
"""
