"""Where and whether there is a chirp: networks against simple methods."""
