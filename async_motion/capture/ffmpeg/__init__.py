"""FFmpeg through PyAV: streams, decoding, frames, display parameters, the RTSP proxy and its media relay."""
