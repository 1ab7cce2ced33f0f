"""What carries rows to where they belong: the interface of the data engines, and the one of this machine."""
