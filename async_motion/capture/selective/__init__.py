"""`decode: auto`: decode modes, the activity that wakes them, H.264 headers, the GOP buffer."""
