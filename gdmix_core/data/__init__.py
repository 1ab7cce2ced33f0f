"""What later steps read and write: bags, frame, shards, rows of entities, score vectors, feature lists, hashes."""
