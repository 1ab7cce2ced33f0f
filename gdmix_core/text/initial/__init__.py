"""The network of another run, remapped to this run's vocabularies."""
