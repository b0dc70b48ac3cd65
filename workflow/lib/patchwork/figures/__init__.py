"""Figures: a tidy frame in, a matplotlib figure out; intervals arrive as columns."""
