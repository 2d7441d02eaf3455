"""How the processes of a run find each other: at torchrun's store or the first one's, by a deadline and not in
silence.
"""

import os
import socket
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from torch._C._distributed_c10d import TCPStore

from hubel.errors import UsageError, listed

NOTICE = 10.0  # [s] of silence
PATIENCE = float(os.environ.get("HUBEL_JOIN_SECONDS", "120"))  # [s], for processes that do not arrive
NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def env_integer(name: str) -> int:
    """Read a whole number from one of torchrun's environment variables."""
    text = os.environ.get(name, "")
    if not text.isdecimal():
        raise UsageError(f"{name} is {text!r} in the environment; it is a whole number")
    return int(text)


def address() -> str:
    """Return the address of the store, HOST:PORT."""
    return f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"


@dataclass
class Wait:
    """A wait for other processes. After a while it says for whom it waits, and in the end it gives up."""

    rank: int
    size: int
    began: float = field(default_factory=time.monotonic)
    announced: bool = False

    def pause(self, absent: Sequence[int], reason: str = "") -> None:
        """Sleep for a moment.

        Args:
            absent: the ranks that are known to be missing; none where another process knows.
            reason: why they cannot be reached.

        Raises:
            UsageError: the time is over.
        """
        waited = time.monotonic() - self.began
        ranks = listed([str(other) for other in absent])
        if waited > PATIENCE:
            missing = f"process{'es' if len(absent) > 1 else ''} {ranks}"
            raise UsageError(
                f"process {self.rank} of {self.size} waited {PATIENCE:g} s for {missing if absent else 'the others'} "
                f"at {address()}{reason and f' ({reason})'}; start every one of them, or fewer with "
                f"--nproc-per-node"
            )
        if absent and not self.announced and waited > min(NOTICE, PATIENCE / 3):
            self.announced, end = True, time.strftime("%H:%M:%S", time.localtime(time.time() + PATIENCE - waited))
            print(
                f"hubel: waiting for {len(absent)} of {self.size} processes (rank {ranks}) to join at {address()}, "
                f"until {end}",
                file=sys.stderr,
                flush=True,
            )
        time.sleep(0.2 if reason else 0.02)


def open_store(rank: int, size: int, wait: Wait) -> Any:
    """Connect to the store at MASTER_ADDR: torchrun's own, or where there is no torchrun the first process's."""
    if rank > 0:
        _wait_for_listener(wait)
    return TCPStore(
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        size,
        rank == 0 and not has_agent(),
        timeout=timedelta(seconds=PATIENCE),
        wait_for_workers=False,
    )


def _wait_for_listener(wait: Wait) -> None:
    """Wait until the first process listens. Torch would wait in silence, and end with its own stack."""
    while True:
        try:
            socket.create_connection((os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])), timeout=5).close()
        except OSError as error:
            wait.pause([0], (error.strerror or str(error)).lower())
        else:
            return


def has_agent() -> bool:
    """Tell whether torchrun watches over this process, and holds the store."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def join_store(store: Any, rank: int, size: int, wait: Wait) -> str:
    """Meet every other process at the store. Returns the name of the rendezvous.

    Torchrun's store outlives a restart with all that the dead processes wrote, and torch would connect to those. So the
    first process gives each rendezvous a new name, and the others answer to it. A name at which all were present before
    this process answered is that of an earlier rendezvous.
    """
    answered, absent = "", [0]
    if rank == 0:
        answered = uuid.uuid4().hex
        store.set("hubel/rendezvous", answered)
    while True:
        if rank == 0:
            absent = [other for other in range(1, size) if not store.check([f"{answered}/{other}"])]
            if not absent:
                store.set(f"{answered}/all", "present")
                return answered
        elif store.check(["hubel/rendezvous"]):
            called = store.get("hubel/rendezvous").decode()
            complete = store.check([f"{called}/all"])
            if complete and called == answered:
                return called
            if not complete and called != answered:
                store.set(f"{called}/{rank}", "present")
                answered, absent = called, []  # the first process is there, and knows who is not
        wait.pause(absent)
