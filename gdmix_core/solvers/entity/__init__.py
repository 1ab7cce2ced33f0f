"""Many small models at once, compiled."""
