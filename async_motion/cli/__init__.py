"""The command line: `main` parses the arguments; each command has a module of its own."""

from async_motion.cli.command_line import main

__all__ = ["main"]
