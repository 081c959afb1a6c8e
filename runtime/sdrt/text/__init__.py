"""Prompts to embeddings: A1111's syntax, tokenizers, chunks, encoders, weights."""
