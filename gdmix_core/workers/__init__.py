"""Processes of a step: started, watched, restarted; their log lines, progress, checkpoints and sums."""
