"""One model over many rows."""
