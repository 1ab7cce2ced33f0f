"""Input to try a pipeline with: MovieLens, NeMig, generated rows."""
