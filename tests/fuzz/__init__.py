"""Hostile cameras and files against the real capture, in a process of its own.

`python -m tests.fuzz --seed N --minutes M` draws case after case; a number of a seed is the same case with
the same code. The target (`target.py`) is a child: a decoder's segmentation fault is seen, and said with
its number; hostile servers (`hostile.py`) live in the parent, so that the child's memory, threads and handles
are capture's alone. `--only 4711` repeats one case.
"""
