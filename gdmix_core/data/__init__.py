"""The data that later steps share: bags, frame, shards, rows of entities, score vectors, feature lists, hashes."""
