"""A coordinate whose scores another system has made."""
