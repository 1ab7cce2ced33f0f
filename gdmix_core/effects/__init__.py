"""The kinds of coordinates, a folder each: how each is trained. What several share lies beside the folders."""
