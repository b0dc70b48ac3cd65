"""Figures about heads: ablation effects, similarity, selectivity."""
