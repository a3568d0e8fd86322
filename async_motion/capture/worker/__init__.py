"""`isolation: process`: a camera read by a child process, and frames in shared memory."""
