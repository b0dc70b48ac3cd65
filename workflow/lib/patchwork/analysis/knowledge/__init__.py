"""Where a language model keeps facts: tracing, minimal sets, editing, and what they show."""
