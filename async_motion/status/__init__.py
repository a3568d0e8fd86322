"""The MQTT interface besides frames and events: states, settings in force, and commands.

    pipelines ──Observer──▶ ┌──────────┐ ──retain──▶ {base}/{camera}/motion, zone/…, status, state
    delivery ──on_stored──▶ │ Reporter │ ──retain──▶ {base}/state
                            └────┬─────┘
    {base}/…/set ─────────▶ ┌────┴─────┐ ──retain──▶ {base}/{camera}/{setting}
                            │ Commands │ ──Controls─▶ pipelines
                            └────┬─────┘
                        RememberedValues ──remember─▶ the next start

    Reporter ──snapshot──▶ DayLogs ──▶ delivery: a file for each day in the bucket

- Nothing here blocks or fails: observations are recorded, and publications are passed to the MQTT client,
  which keeps the newest of each topic while disconnected. Motion is published within the same call.
- No state is stuck: the start publishes OFF for every camera and zone, to clear what a crash left behind; the
  stop publishes OFF and offline.
- Rates are limited: a camera's state is published every `state_every_s`, and when its status or problem
  changes, at most once in `STATE_GAP_S`. Every other topic is published when its value changes.
- Floods of commands are merged: each setting accepts a burst, then the newest command once a second. Cameras
  reconnect on command at most every 10 s. After a few refusals only their number is logged.
- A command is limited in size, parsed, range-checked (`core/commands.py`), applied, confirmed on its state
  topic at once, and remembered. A refused one is logged, and the value in force is published again, so that
  the sender sees it unchanged. Retained commands are ignored: they are old, and would apply again at every
  connect. MQTT does not identify the sender, so the log names the topic.
- A remembered setting holds until the value in the settings file changes: a later edit of the file wins.

Times of day are local: "today" begins at the machine's midnight.
"""

from async_motion.status.commands import ProfileControls
from async_motion.status.day_logs import DayLogs
from async_motion.status.memory import Remember
from async_motion.status.reporter import Member, Preview, Reporter, StatusBroker, retained_by

__all__ = [
    "DayLogs",
    "Member",
    "Preview",
    "ProfileControls",
    "Remember",
    "Reporter",
    "StatusBroker",
    "retained_by",
]
