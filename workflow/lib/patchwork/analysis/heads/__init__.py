"""Effects of ablating heads, pairs and layers, and the released procedure."""
