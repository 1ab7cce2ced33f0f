"""A worker process of a fixed effect: trains together with those that TF_CONFIG names.

python -m gdmix_core.effects.fixed_worker --run ROOT --step pass_01.global.train --threads 1
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import traceback

from gdmix_core import processes
from gdmix_core.effects.fixed import settings_of
from gdmix_core.effects.fixed_fit import fit
from gdmix_core.effects.training_rows import TrainingRows
from gdmix_core.errors import GdmixError, StepError
from gdmix_core.run import Run
from gdmix_core.solvers.all_reduce import WorkerLostError
from gdmix_core.solvers.tensorflow_all_reduce import TensorFlowAllReduce, place_in_cluster

# Exit codes that say nothing against the worker itself.
LOST_WORKER = 75  # another one is gone (EX_TEMPFAIL of sysexits.h)
TOLD_TO_END = 128 + signal.SIGTERM


def main() -> None:
    processes.become_worker()
    _end_on_sigterm()
    parser = argparse.ArgumentParser(description="Trains a fixed effect, as one of the workers in TF_CONFIG.")
    parser.add_argument("--run", required=True)
    parser.add_argument("--step", required=True)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    code = 0
    try:
        work(arguments.run, arguments.step, arguments.threads)
    except WorkerLostError as error:
        processes.send({"lost": str(error)})
        code = LOST_WORKER
    except GdmixError as error:
        processes.send({"error": str(error)})
        code = 1
    except Exception as error:
        traceback.print_exc()
        processes.send({"failure": f"{type(error).__name__}: {error}"})
        code = 1
    sys.stderr.flush()
    # At once: TensorFlow takes a while to go down in order, and the others would see their connections break before
    # the parent sees the exit code; who died, and of what, would be lost.
    os._exit(code)


def _end_on_sigterm() -> None:
    """TensorFlow catches SIGTERM, as notice of a preemption that somebody else will act on, and goes on.

    So that it is the end all the same, the signal is blocked, in this thread and those it starts, and a thread of its
    own waits for it.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def end() -> None:
        signal.sigwait({signal.SIGTERM})
        os._exit(TOLD_TO_END)

    threading.Thread(target=end, daemon=True).start()


def work(root: str, step_id: str, threads: int) -> None:
    run = Run.open(root)
    step = run.plan[step_id]
    rank, workers = place_in_cluster()
    wanted = settings_of(run, step).workers
    if workers != wanted:
        raise StepError(f"{step_id}: TF_CONFIG names {workers} workers, but fixed_effect.workers is {wanted}")
    # Before the group meets: what is wrong with the data is then told before TensorFlow's import.
    rows = TrainingRows(run, step, rank, workers)
    group = TensorFlowAllReduce()

    def on_iteration(number: int, objective: float) -> None:
        if rank == 0:
            processes.send({"iteration": number, "objective": objective})

    outcome = fit(run, step, rows, group, threads=threads, on_iteration=on_iteration)
    # Only when everyone's scores are written is there an outcome.
    group.barrier()
    if rank == 0:
        processes.send({"outcome": outcome})
    group.leave()


if __name__ == "__main__":
    main()
