"""Figures about chirps in pictures and in recordings."""
