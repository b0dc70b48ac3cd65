"""Controlled rearing: measures of networks and contrasts of rearing conditions."""
