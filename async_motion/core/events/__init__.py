"""Detections to events and stills: the tracker, the selection, and what else frames say about a camera."""
