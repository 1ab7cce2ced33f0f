"""The fixed effect: one linear model of all rows."""
