"""The page of an instance, and the API below it: see, find, draw, tune.

server       connections, headers, errors; health and metrics for programs
auth         who may do what
api/         routes, declared once, served and documented from the same words
pages        server-rendered pages over the API
live         judged pictures and news for those who look
archive      stored events, from the bucket alone
site         what all of it stands on: the service, seen through protocols of our own
static/      the style sheet, and custom elements as plain modules on top of pages that work without them
"""

from async_motion.web.archive import Archive
from async_motion.web.auth import Guard, Role
from async_motion.web.live import Live
from async_motion.web.server import Web
from async_motion.web.site import CameraFacts, Site, ZoneFacts
from async_motion.web.thumbnails import Thumbnails

__all__ = ["Archive", "CameraFacts", "Guard", "Live", "Role", "Site", "Thumbnails", "Web", "ZoneFacts"]
