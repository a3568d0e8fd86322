"""HTTP sources: the connection, what FFmpeg reads from it, and JPEGs found in any stream of bytes."""
