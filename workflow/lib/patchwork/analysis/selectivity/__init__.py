"""Head selectivity: attention to known regions of a picture."""
