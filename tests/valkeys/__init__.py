"""Several Valkeys that belong together, on loopback, and one that takes long to load."""
