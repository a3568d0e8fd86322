"""The server processes that `tests/support/rtsp.py` starts, under any Python; imports none of our code."""

from __future__ import annotations

import asyncio
import importlib
import sys
from concurrent.futures import ThreadPoolExecutor

MAX_CLIENTS = 512
"""How many clients the toolkit's server serves at once."""

PAYLOADS = {
    "h264": "qtdemux ! h264parse ! rtph264pay config-interval=-1",
    "hevc": "qtdemux ! h265parse ! rtph265pay config-interval=-1",
    "mjpeg": "avidemux ! jpegparse ! rtpjpegpay",
}


def _run_gstreamer(clip: str, port: str, login: str, codec: str) -> None:
    gi = importlib.import_module("gi")
    for name in ("Gst", "GstRtsp", "GstRtspServer"):
        gi.require_version(name, "1.0")
    gst, glib, gst_rtsp, rtsp = (
        importlib.import_module(f"gi.repository.{name}")
        for name in ("Gst", "GLib", "GstRtsp", "GstRtspServer")
    )
    gst.init(None)
    server = rtsp.RTSPServer(address="127.0.0.1", service=port)
    factory = rtsp.RTSPMediaFactory()
    factory.set_launch(f"( filesrc location={clip} ! {PAYLOADS[codec]} name=pay0 )")
    if login:
        user, _, password = login.partition(":")
        auth, token = rtsp.RTSPAuth(), rtsp.RTSPToken()
        token.set_string("media.factory.role", user)
        auth.add_basic(rtsp.RTSPAuth.make_basic(user, password), token)
        auth.set_supported_methods(gst_rtsp.RTSPAuthMethod.BASIC)
        server.set_auth(auth)
        permissions = rtsp.RTSPPermissions()
        permissions.add_permission_for_role(user, "media.factory.access", True)
        permissions.add_permission_for_role(user, "media.factory.construct", True)
        factory.set_permissions(permissions)
    server.get_mount_points().add_factory("/clip", factory)
    server.attach(None)
    glib.MainLoop().run()


def _run_toolkit(folder: str, port: str) -> None:
    server = importlib.import_module("aio_rtsp_toolkit.server")

    async def serve() -> None:
        # Each client has a thread, and asyncio's own pool has six on two cores: a seventh client starves.
        pool = ThreadPoolExecutor(MAX_CLIENTS)
        asyncio.get_running_loop().set_default_executor(pool)
        await server.serve(folder, host="127.0.0.1", port=int(port))

    asyncio.run(serve())


if __name__ == "__main__":
    if sys.argv[1] == "gstreamer":
        _run_gstreamer(*sys.argv[2:])
    else:
        _run_toolkit(*sys.argv[2:])
