"""A text network as the fixed effect: what a run needs of it; the network itself is in gdmix_core/text."""
