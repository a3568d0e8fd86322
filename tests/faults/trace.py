"""Kill a process at its N-th system call of some kinds, counted over all of its threads. Linux only.

A seccomp filter in the child stops it before each of these calls, and ptrace reports the stop. A kill before
call N + 1 is a kill after call N, so that all N together cover every moment between these calls.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass

CALLS: dict[str, dict[str, int]] = {
    "x86_64": {
        "fsync": 74,
        "fdatasync": 75,
        "rename": 82,
        "renameat": 264,
        "renameat2": 316,
        "unlink": 87,
        "unlinkat": 263,
        "ftruncate": 77,
        "write": 1,
        "pwrite64": 18,
        "writev": 20,
        "pwritev": 296,
        "sendto": 44,
        "sendmsg": 46,
    },
    "aarch64": {
        "fsync": 82,
        "fdatasync": 83,
        "renameat": 38,
        "renameat2": 276,
        "unlinkat": 35,
        "ftruncate": 46,
        "write": 64,
        "pwrite64": 68,
        "writev": 66,
        "pwritev": 70,
        "sendto": 206,
        "sendmsg": 211,
    },
}
"""The calls that make data durable or send it, and their numbers."""

_TRACEME, _CONT, _SETOPTIONS, _GETEVENTMSG = 0, 7, 0x4200, 0x4201
_OPTIONS = 0x2 | 0x4 | 0x8 | 0x80 | 0x100000  # fork, vfork, clone, seccomp; and all die with the tracer
_EVENT_SECCOMP = 7
_WALL = 0x40000000
_SET_PDEATHSIG, _SET_NO_NEW_PRIVS, _SET_SECCOMP, _MODE_FILTER = 1, 38, 22, 2
_ALLOW, _TRACE = 0x7FFF0000, 0x7FF00000
_LOAD, _EQUALS, _RETURN = 0x20, 0x15, 0x06

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the process ended. `calls` were begun; `killed_at` names the last, None: it ended with `code`."""

    calls: int
    killed_at: str | None
    code: int | None


def possible() -> bool:
    """Return whether this machine supports it."""
    return sys.platform == "linux" and platform.machine() in CALLS


def run_traced(
    body: Callable[[], int], kill_at: int | None, started: Callable[[int], None] = lambda _pid: None
) -> Outcome:
    """Run `body` in a child, and kill the child at its `kill_at`-th call. `started` gets the child's pid.

    From then on this process, and with it the child, dies with its own parent.
    """
    names = list(CALLS[platform.machine()])
    _libc.prctl(_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    pid = os.fork()
    if pid == 0:
        _be_traced()
        os._exit(body())
    os.waitpid(pid, 0)
    _ptrace(_SETOPTIONS, pid, _OPTIONS)
    _ptrace(_CONT, pid)
    started(pid)
    calls = 0
    while True:
        task, status = os.waitpid(-1, _WALL)
        if os.WIFEXITED(status) or os.WIFSIGNALED(status):
            if task == pid:
                return Outcome(calls, None, os.waitstatus_to_exitcode(status))
            continue
        number = os.WSTOPSIG(status)
        event = status >> 16
        if event == _EVENT_SECCOMP:
            calls += 1
            if calls == kill_at:
                index = ctypes.c_ulong()
                _ptrace(_GETEVENTMSG, task, ctypes.addressof(index))
                os.kill(pid, signal.SIGKILL)
                _reap(pid)
                return Outcome(calls, names[index.value], None)
        # A new thread starts with a stop; other signals are passed to the child.
        quiet = event or number in (signal.SIGTRAP, signal.SIGSTOP)
        _ptrace(_CONT, task, 0 if quiet else number)


def _reap(pid: int) -> None:
    while True:
        task, status = os.waitpid(-1, _WALL)
        if task == pid and not os.WIFSTOPPED(status):
            return


def _be_traced() -> None:
    """Stop this child for the tracer, which then gets each of the calls."""
    numbers = list(CALLS[platform.machine()].values())
    program = [(_LOAD, 0, 0, 0)]
    for index, number in enumerate(numbers):
        program += [(_EQUALS, 0, 1, number), (_RETURN, 0, 0, _TRACE | index)]
    program.append((_RETURN, 0, 0, _ALLOW))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    head = struct.pack("HxxxxxxP", len(program), ctypes.addressof(code))
    _ptrace(_TRACEME, 0)
    os.kill(os.getpid(), signal.SIGSTOP)
    _libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if _libc.prctl(_SET_SECCOMP, _MODE_FILTER, ctypes.c_char_p(head), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "seccomp")


def _ptrace(request: int, pid: int, data: int = 0) -> None:
    if _libc.ptrace(request, pid, None, data) != 0 and ctypes.get_errno() != 3:  # ESRCH: it is dead already
        raise OSError(ctypes.get_errno(), f"ptrace({request})")
