"""Text: abstracts fetched or invented, tokens, language models, and what they know."""
