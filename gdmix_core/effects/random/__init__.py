"""The random effect: a small linear model for each entity."""
