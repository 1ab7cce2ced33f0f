"""The data engines, which carry rows to where they belong: their interface, and the one for a single machine."""
