"""From texts to token ids, and vocabularies."""
