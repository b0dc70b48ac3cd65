"""Patchwork: studies of the insides of fine-tuned transformers, with their controls."""
