"""Training a network: batches, losses, updates, the training loop, one worker or many."""
