"""The way from a configuration to steps and keys; where a run's files lie, whose they are, and what is done."""
