"""The start and the end of a process of a group of workers, and its reports to its parent."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable

from gdmix_core.system_errors import as_user_error
from gdmix_core.workers import processes
from gdmix_core.workers.all_reduce import WorkerLostError

# Exit codes that say nothing against the worker itself.
LOST_WORKER = 75  # another one is gone (EX_TEMPFAIL of sysexits.h)
TERMINATED = 128 + signal.SIGTERM


def main(description: str, work: Callable[[str, str, int], None]) -> None:
    """Call work(run's root, step's id, threads), as the command line says, and end the process."""
    _end_on_sigterm()
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--run", required=True)
    parser.add_argument("--step", required=True)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    processes.become_worker(arguments.step, _name())
    code = 0
    try:
        work(arguments.run, arguments.step, arguments.threads)
    except WorkerLostError as error:
        processes.send({"lost": str(error)})
        code = LOST_WORKER
    except Exception as error:
        if (found := as_user_error(error)) is not None:
            processes.send({"error": str(found)})
        else:
            traceback.print_exc()
            processes.send({"failure": f"{type(error).__name__}: {error}"})
        code = 1
    sys.stderr.flush()
    # At once: TensorFlow takes a while to go down in order, and the others would see their connections break before
    # the parent sees the exit code; who died, and of what, would be lost.
    os._exit(code)


def send_heartbeats(seconds: float = 5.0) -> None:
    """Tell the parent every so many seconds that this process is alive, from now to its end."""

    def beat() -> None:
        while True:
            processes.send({"alive": True})
            time.sleep(seconds)

    threading.Thread(target=beat, daemon=True).start()


def _name() -> str:
    """Return `worker 1`, its name in the group by TF_CONFIG; "" where that does not say (`work` then asks for it)."""
    try:
        task = json.loads(os.environ["TF_CONFIG"])["task"]
        return f"{task['type']} {task['index']}"
    except (ValueError, KeyError, TypeError):
        return ""


def _end_on_sigterm() -> None:
    """End on SIGTERM, which TensorFlow catches as notice of a preemption that somebody else will act on.

    The signal is blocked, in this thread and those it starts, and a thread of its own waits for it.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def end() -> None:
        signal.sigwait({signal.SIGTERM})
        os._exit(TERMINATED)

    threading.Thread(target=end, daemon=True).start()
