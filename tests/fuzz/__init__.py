"""Hostile cameras and files against the real capture, in a process of its own.

`python -m tests.fuzz --seed N --minutes M` draws one case after the other; with the same code, a seed and a
number give the same case. The target (`target.py`) is a child, so that a decoder's segmentation fault is seen
and reported with the case's number. Hostile servers (`hostile.py`) run in the parent, so that the child's
memory, threads and handles are capture's alone. `--only 4711` repeats one case.
"""
