"""A worker process of a random effect: trains the shards it is given, one after another.

python -m gdmix_core.effects.random.worker --run ROOT --step pass_01.per_user.train --shards 0,3,5 --threads 1
"""

from __future__ import annotations

import argparse
import os
import sys

from gdmix_core.arrow import look_for_no_pandas
from gdmix_core.system_errors import as_user_error
from gdmix_core.workers import processes


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains shards of a random effect.")
    parser.add_argument("--run", required=True)
    parser.add_argument("--step", required=True)
    parser.add_argument("--shards", required=True, type=lambda text: [int(n) for n in text.split(",")])
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    processes.become_worker(arguments.step, f"shards {','.join(map(str, arguments.shards))}")
    look_for_no_pandas()
    try:
        from gdmix_core.effects.random.shard import ShardTraining
        from gdmix_core.training_context import TrainingContext

        shards = ShardTraining(TrainingContext.open(arguments.run, arguments.step))
        for number in arguments.shards:
            shards.train(number, threads=arguments.threads)
            processes.send({"shard": number})
    except Exception as error:
        if (found := as_user_error(error)) is not None:
            processes.send({"error": str(found)})
            sys.exit(1)
        processes.send({"error": f"{type(error).__name__}: {error}"})
        raise
    sys.stderr.flush()
    # At once: everything is written, and threads of native libraries have been seen to abort an orderly end.
    os._exit(0)


if __name__ == "__main__":
    main()
