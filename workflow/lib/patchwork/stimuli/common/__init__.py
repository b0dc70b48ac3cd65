"""What all generators share: batches, random numbers, noise, colours, checked settings."""
