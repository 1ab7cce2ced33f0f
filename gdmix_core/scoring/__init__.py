"""An exported model applied to new data, and the files that scores are written to."""
