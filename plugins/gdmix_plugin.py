"""The plugin for Airflow's plugins folder; where the package is installed, its entry point registers it."""

from importlib.metadata import entry_points

if not entry_points(group="airflow.plugins", name="gdmix"):
    from gdmix_operators.plugin import GdmixPlugin  # noqa: F401 (Airflow finds it by its base class)
