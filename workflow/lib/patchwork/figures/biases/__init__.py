"""Figures about lines: stimuli, errors, colours, training."""
