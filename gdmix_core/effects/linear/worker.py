"""A worker process of a fixed effect: trains together with those that TF_CONFIG names.

python -m gdmix_core.effects.linear.worker --run ROOT --step pass_01.global.train --threads 1
"""

from __future__ import annotations

from gdmix_core.effects.linear.fit import fit
from gdmix_core.effects.linear.training import settings_of
from gdmix_core.effects.linear.training_rows import TrainingRows
from gdmix_core.errors import StepError
from gdmix_core.training_context import TrainingContext
from gdmix_core.workers import process, processes
from gdmix_core.workers.tensorflow_all_reduce import TensorFlowAllReduce, place_in_cluster


def work(root: str, step_id: str, threads: int) -> None:
    context = TrainingContext.open(root, step_id)
    rank, workers = place_in_cluster()
    wanted = settings_of(context).workers
    if workers != wanted:
        raise StepError(f"{step_id}: TF_CONFIG names {workers} workers, but fixed_effect.workers is {wanted}")
    # Before the group meets: faults of the data are then reported before TensorFlow's import.
    rows = TrainingRows(context, rank, workers, threads)
    group = TensorFlowAllReduce()

    def on_iteration(number: int, objective: float) -> None:
        if rank == 0:
            processes.send({"iteration": number, "objective": objective})

    outcome = fit(context, rows, group, on_iteration=on_iteration)
    # Only when everyone's scores are written is there an outcome.
    group.barrier()
    if rank == 0:
        processes.send({"outcome": outcome})
    group.leave()


if __name__ == "__main__":
    process.main("Trains a fixed effect, as one of the workers in TF_CONFIG.", work)
