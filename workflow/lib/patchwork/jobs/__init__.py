"""What every job needs: its log, its device, its provenance, a checked configuration."""
