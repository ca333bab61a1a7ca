"""Formats other than plain JSON: bytes to values that the mapping reads. A missing library is a ConfigError."""
