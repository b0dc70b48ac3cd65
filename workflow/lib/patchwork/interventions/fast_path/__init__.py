"""The fast path of sweeps: shared prefixes, packed streams, low-rank head removal."""
