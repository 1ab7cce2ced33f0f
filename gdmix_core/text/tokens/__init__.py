"""Tokenizers, which turn texts into token ids, and vocabularies."""
