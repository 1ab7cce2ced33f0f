"""`make demo`: input data, then the demo DAG through Airflow on its embedded SQLite, then the table.

    python tools/demo.py FOLDER [MOVIELENS_FOLDER]

FOLDER gets input/, runs/ and airflow/ (Airflow's home). Without a MovieLens folder a generated sample serves.
"""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent


def main() -> int:
    folder = Path(sys.argv[1])
    movielens = sys.argv[2] if len(sys.argv) > 2 else ""
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    day = datetime.date.today().isoformat()
    source, output = folder / "input" / day, folder / "runs" / day
    if movielens:
        say(f"converting MovieLens from {movielens}")
        gdmix("sample", "movielens", "--data", movielens, "--output", str(source))
    else:
        say("generating a MovieLens-shaped sample with known true coefficients")
        gdmix("sample", "generated", "--output", str(source))
    say("preparing Airflow (SQLite)")
    airflow(folder, "db", "migrate", quiet=True)
    say("running the DAG movielens, task by task; its log: " + str(folder / "airflow.log"))
    conf = {"date": day, "input": str(source), "output": str(output)}
    airflow(folder, "dags", "test", "movielens", "-c", json.dumps(conf), quiet=True)
    gdmix("show", str(output))
    say(f"done in {time.monotonic() - began:.0f} s. The same without Airflow: {BIN}/gdmix run dags/movielens.yaml "
        f"--set input={source} --set output=ANOTHER_FOLDER --var ds={day}")  # fmt: skip
    return 0


def say(text: str) -> None:
    print(f"== {text}", flush=True)


def gdmix(*arguments: str) -> None:
    done = subprocess.run([BIN / "gdmix", *arguments], cwd=REPOSITORY)
    if done.returncode != 0:
        sys.exit(done.returncode)


def airflow(folder: Path, *arguments: str, quiet: bool) -> None:
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(REPOSITORY / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(REPOSITORY / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
    }
    log = folder / "airflow.log"
    with log.open("a") as file:
        done = subprocess.run(
            [BIN / "airflow", *arguments], cwd=REPOSITORY, env=environment, stdin=subprocess.DEVNULL,
            stdout=file if quiet else None, stderr=subprocess.STDOUT if quiet else None,
        )  # fmt: skip
    if done.returncode != 0:
        print("\n".join(log.read_text().splitlines()[-25:]), file=sys.stderr)
        sys.exit(f"airflow {' '.join(arguments[:2])} failed; its whole log: {log}")


if __name__ == "__main__":
    sys.exit(main())
