"""The process in which a trainer of the user's own is called: all that it starts ends with it.

python -m gdmix_core.effects.python.worker --run ROOT --step pass_01.global.train --path '["FOLDER", …]'
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time

from gdmix_core.workers import processes

_POLL_SECONDS = 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description="Calls a trainer of the user's own.")
    parser.add_argument("--run", required=True)
    parser.add_argument("--step", required=True)
    parser.add_argument("--path", required=True, type=json.loads)
    arguments = parser.parse_args()
    sys.path[:] = arguments.path
    processes.become_worker(arguments.step, "trainer")
    processes.end_on_signals("the trainer was ended by {name}", (signal.SIGTERM,))
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    from gdmix_core.effects.python.training import make_scores
    from gdmix_core.system_errors import as_user_error
    from gdmix_core.training_context import TrainingContext

    try:
        outcome = make_scores(TrainingContext.open(arguments.run, arguments.step))
        processes.send({"outcome": outcome})
    except Exception as error:
        found = as_user_error(error)
        processes.send({"error": str(found) if found is not None else f"{type(error).__name__}: {error}"})
        if found is None:
            raise
        sys.exit(1)
    finally:
        processes.end_descendants()
    sys.stdout.flush()
    sys.stderr.flush()
    # At once: threads that the trainer has left would keep the process.
    os._exit(0)


def _end_with_parent(parent: int) -> None:
    """End with the parent: the trainer may have taken the handler of the signal that the kernel sends when it dies."""
    while os.getppid() == parent:
        time.sleep(_POLL_SECONDS)
    processes.end_descendants()
    os._exit(1)


if __name__ == "__main__":
    main()
