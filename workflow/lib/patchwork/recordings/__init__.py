"""Recordings of people: readers, detection of chirps, annotations."""
