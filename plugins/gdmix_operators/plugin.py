"""The plugin that Airflow's plugin manager loads, in every one of its processes: keep it light."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin


class GdmixPlugin(AirflowPlugin):
    name = "gdmix"
