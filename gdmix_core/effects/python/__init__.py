"""A coordinate that a function of the user's own trains."""
