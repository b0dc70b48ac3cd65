"""Figures of what language models know: tracing, minimal sets, edits."""
