"""The published figure of a spectrogram, assembled from parts as matplotlib draws it."""
