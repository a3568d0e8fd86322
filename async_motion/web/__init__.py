"""The web pages of an instance, and the API below them: see, find, draw, tune.

server       connections, headers, errors; health and metrics for programs
auth         authentication and roles
api/         routes, each declared once, then served and documented from that declaration
pages        server-rendered pages over the API
live         judged frames and news for viewers
archive      stored events, from the bucket alone
site         what all of it depends on: the service, seen through protocols declared here
static/      the style sheet, and custom elements as plain ES modules on top of pages that work without them
"""

from async_motion.web.archive import Archive
from async_motion.web.auth import Guard, Role
from async_motion.web.live import Live
from async_motion.web.server import Web
from async_motion.web.site import CameraFacts, Site, ZoneFacts
from async_motion.web.thumbnails import Thumbnails

__all__ = ["Archive", "CameraFacts", "Guard", "Live", "Role", "Site", "Thumbnails", "Web", "ZoneFacts"]
