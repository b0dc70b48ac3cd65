"""Orientation and colour biases, ideal observers, transitions of the loss."""
