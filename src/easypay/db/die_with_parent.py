"""Run a program that ends with its parent process. A script, never imported.

    python -I -S die_with_parent.py PARENT_PID SIGNAL AS program [argument ...]

On Linux the kernel sends SIGNAL to the program when the parent dies, for whatever reason. AS is
`same`, `namespace` (root appears as user 1000 in a user namespace; on disk its files stay root's)
or `UID:GID` (root becomes that user for good). This is a script that replaces itself by the
program, because none of it is safe in the forked copy of a program with threads.
"""

import ctypes
import os
import sys

CLONE_NEWUSER = 0x1000_0000
PR_SET_PDEATHSIG = 1
REFUSED = 125
"""Exit status when the program could not be started this way."""


def main(arguments: list[str]) -> None:
    parent, signal, identity, *program = arguments
    libc = ctypes.CDLL(None, use_errno=True)
    if identity == "namespace":
        uid, gid = os.geteuid(), os.getegid()
        if libc.unshare(CLONE_NEWUSER) != 0:
            raise OSError(ctypes.get_errno(), "user namespaces are not available")
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"1000 {uid} 1")
        _write("/proc/self/gid_map", f"1000 {gid} 1")
    elif identity != "same":
        user, _, group = identity.partition(":")
        os.setgroups([])
        os.setgid(int(group))
        os.setuid(int(user))
    if sys.platform == "linux":
        # This comes after the change of identity, which would clear it.
        libc.prctl(PR_SET_PDEATHSIG, int(signal), 0, 0, 0)
        if os.getppid() != int(parent):
            sys.exit(REFUSED)
    os.execv(program[0], program)  # noqa: S606  (no shell wanted)


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except OSError as error:
        sys.stderr.write(f"cannot start {sys.argv[4]}: {error}\n")
        sys.exit(REFUSED)
