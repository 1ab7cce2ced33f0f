"""The search for the best values of numbers of the configuration: a trial each, the best one exported."""
