"""What the world sees over MQTT besides frames and events: states, settings in force, and commands.

    pipelines ──Observer──▶ ┌──────────┐ ──retain──▶ {base}/{camera}/motion, zone/…, status, state
    delivery ──on_stored──▶ │ Reporter │ ──retain──▶ {base}/state
                            └────┬─────┘
    {base}/…/set ─────────▶ ┌────┴─────┐ ──retain──▶ {base}/{camera}/{setting}
                            │ Commands │ ──Controls─▶ pipelines
                            └────┬─────┘
                        RememberedValues ──remember─▶ the next start

- Nothing here blocks or fails: what is observed is noted, and what is published is handed to the broker's
  client, which keeps the newest of each topic while the broker is away. Motion goes out in the same call.
- Nothing is stuck: the start publishes OFF for every camera and zone, whatever a crash left behind; the stop
  publishes OFF and offline.
- Nothing floods: a camera's state goes out every `state_every_s`, and between when its status or problem
  changes, but then never twice within `STATE_GAP_S`. Every other topic is published when its value changes.
- Commands by the thousand are merged: of each setting a burst is obeyed, then its newest once a second; the
  cameras reconnect by command at most every 10 s; refusals leave a few lines in the log, then their number.
- A command is bounded, parsed and ranged (`core/commands.py`), applied, confirmed on its state topic at once
  and remembered. A refused one leaves a line in the log, and the value in force is published again, so that
  the sender sees that nothing changed. Retained commands are ignored: they are old, and would be obeyed
  again at every connect. MQTT does not say who sent a message: the log names the topic that it came by.
- A remembered setting holds until the settings file says something else than it said at the time of the
  command: a later edit of the file is meant.

Times of day are the machine's own: "today" begins at local midnight.
"""

from async_motion.status.commands import ProfileControls
from async_motion.status.memory import Remember
from async_motion.status.reporter import Member, Preview, Reporter, StatusBroker, retained_by

__all__ = ["Member", "Preview", "ProfileControls", "Remember", "Reporter", "StatusBroker", "retained_by"]
