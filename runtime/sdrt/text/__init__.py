"""Prompts to embeddings: tokenizers and encoders."""
