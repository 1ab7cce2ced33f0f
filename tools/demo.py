"""`make demo`: input data, then the demo DAG through Airflow on its embedded SQLite, then the table.

    python tools/demo.py FOLDER [--engine spark|embedded] [--movielens FOLDER]

FOLDER gets input/, runs/ and airflow/ (Airflow's home). Without a MovieLens folder a generated sample serves.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
# The lines in which an operator says what it did, such as "pass_01.global.evaluate done in 0.1 s: auc 0.66".
_STEP_LINE = re.compile(r"\] (\S+ (?:done in|failed after) .*?)(?: \[airflow\.task|$)")


def main() -> int:
    parser = argparse.ArgumentParser(description="The demo pipeline through Airflow.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--engine", choices=["spark", "embedded"], default="spark", help="who handles the data")
    parser.add_argument("--movielens", default="", help="a MovieLens folder")
    arguments = parser.parse_args()
    folder, movielens = arguments.folder, arguments.movielens
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
    airflow(folder, "db", "migrate")
    say("running the DAG movielens, task by task; its log: " + str(folder / "airflow.log"))
    conf = {"date": day, "input": str(source), "output": str(output), "engine": arguments.engine}
    airflow(folder, "dags", "test", "movielens", "-c", json.dumps(conf))
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


def airflow(folder: Path, *arguments: str) -> None:
    """Run an Airflow command; its output goes to a log, the steps' own lines also to the terminal."""
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(REPOSITORY / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(REPOSITORY / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
    }
    log = folder / "airflow.log"
    command = [BIN / "airflow", *arguments]
    with (
        log.open("a") as file,
        subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process,
    ):
        for line in process.stdout or ():
            file.write(line)
            if found := _STEP_LINE.search(line):
                print(f"   {found[1]}", flush=True)
    if process.returncode != 0:
        print("\n".join(log.read_text().splitlines()[-25:]), file=sys.stderr)
        sys.exit(f"airflow {' '.join(arguments[:2])} failed; its whole log: {log}")


if __name__ == "__main__":
    sys.exit(main())
