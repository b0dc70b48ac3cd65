"""Signed directed networks: their stability, their cycles and what attends to their nodes."""
