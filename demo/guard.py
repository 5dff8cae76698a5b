"""Keep one throw-away server alive exactly as long as its owner lives, even if the owner is killed with -9.

    python -I guard.py FOLDER UID GID COMMAND...        (UID and GID: numbers, or - to stay who we are)

Standard input is a pipe of which the owner holds the other end and never writes to it. End of file means that
the owner closed it or died: the server's process group is ended and FOLDER removed. A server that ends by
itself has its last words copied to standard error. Standard library only: this runs by itself under `-I`.
"""

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

GRACE_S = 30.0
"""What a server gets to end in good order, seconds: a worker hands its jobs back."""


def main(folder: Path, uid: int | None, gid: int | None, command: list[str]) -> int:
    """Run `command`, end it when standard input ends, and give its exit status."""
    groups: list[int] | None = None if gid is None else []
    with (folder / "log").open("ab") as log:
        server = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, process_group=0,
            user=uid, group=gid, extra_groups=groups,
        )  # fmt: skip
    try:
        while server.poll() is None:
            if select.select([sys.stdin], [], [], 0.2)[0]:
                break  # nobody ever writes: readable means end of file
        if server.poll() is not None:
            sys.stderr.write((folder / "log").read_text(errors="replace")[-2000:])
        else:
            server.send_signal(signal.SIGQUIT if "postgres" in Path(command[0]).name else signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(GRACE_S)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        status = server.wait()
        shutil.rmtree(folder, ignore_errors=True)
    return status


def number_or_none(word: str) -> int | None:
    return None if word == "-" else int(word)


if __name__ == "__main__":
    _, place, user, group, *words = sys.argv
    sys.exit(main(Path(place), number_or_none(user), number_or_none(group), words))
