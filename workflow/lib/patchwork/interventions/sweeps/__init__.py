"""Sweeps over heads, layers, positions and components, exact or first-order."""
