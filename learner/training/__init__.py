"""Training: an adapter that is sampled from, read and moved; batches and checkpoints."""
