"""The network of another run, laid out in this run's vocabularies."""
