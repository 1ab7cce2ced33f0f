"""The models of another run that this one starts from: found, and laid out in its features and shards."""
