"""Health check of a container: exit 0 if the component named by the argument is alive.

Components are those of Airflow's health report: metadatabase, scheduler, triggerer, dag_processor. The API server
holds their last heartbeats, and asking it costs a twentieth of `airflow jobs check`, which loads all of Airflow each
time. While the API server is down nobody is healthy; no task could run then either.
"""

from __future__ import annotations

import json
import sys
import urllib.request

HEALTH_REPORT = "http://api-server:8080/api/v2/monitor/health"


def main(component: str) -> int:
    try:
        with urllib.request.urlopen(HEALTH_REPORT, timeout=5) as response:
            status = json.load(response)[component]["status"]
    except OSError as error:
        status = f"unknown, since the API server does not answer: {error}"
    print(f"{component}: {status}")
    return 0 if status == "healthy" else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
