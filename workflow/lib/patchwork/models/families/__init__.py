"""The architecture table, and how the rows read a trunk."""
