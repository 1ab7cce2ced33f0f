"""A process of a group for test_worker_group: python -m tests.workers.beating_worker --run FOLDER --step any.

The chief waits for the file `served`. A server beats; the first of its processes then freezes, the second one writes
the file.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

from gdmix_core.workers import process, processes


def work(root: str, step_id: str, threads: int) -> None:
    job = json.loads(os.environ["TF_CONFIG"])["task"]["type"]
    served, began = Path(root, "served"), Path(root, "began")
    if job == "chief":
        while not served.exists():
            time.sleep(0.02)
        processes.send({"outcome": {"served": served.read_text()}})
        return
    process.send_heartbeats(0.05)
    if not began.exists():
        began.touch()
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGSTOP)
    served.write_text(step_id)
    time.sleep(60.0)


if __name__ == "__main__":
    process.main("Serves, or freezes.", work)
