"""Figures of signed networks."""
