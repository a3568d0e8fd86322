"""`python -m async_motion`."""

from async_motion.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
