"""
Runs a server so that it never outlives us. Started as a program, by path; it imports nothing of ours.

    python -I -S server_guard.py exec PARENT_PID COMMAND...
    python -I -S server_guard.py pipe PARENT_PID COMMAND...

`exec` (Linux): the kernel kills this process when its parent's thread dies, then it becomes the server.
`pipe` (anywhere): it stays, starts the server, prints its pid, and kills it when its input ends, which
happens however the parent dies.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys

PR_SET_PDEATHSIG = 1


def become(parent: int, command: list[str]) -> None:
    """Ask to be killed with the parent, then turn into the server."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit(f"prctl failed: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:  # it died before the kernel knew what to do about it
        sys.exit("the parent is gone")
    os.execv(command[0], command)  # noqa: S606 - the point of this program


def watch(command: list[str]) -> None:
    """Start the server, and kill it when the pipe to the parent closes."""
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603 - our own command line
    signal.signal(signal.SIGTERM, lambda _number, _frame: server.terminate())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdout.write(f"{server.pid}\n")
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:  # one half waits for the parent's end, the other for the server's
        while os.read(0, 1):
            pass
        # Not server.kill(): that asks first whether our child lives, and it is our parent's child.
        os.kill(server.pid, signal.SIGKILL)
        os._exit(0)
    os.close(0)
    code = server.wait()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    sys.exit(code)


if __name__ == "__main__":
    if sys.argv[1] == "exec":
        become(int(sys.argv[2]), sys.argv[3:])
    else:
        watch(sys.argv[3:])
