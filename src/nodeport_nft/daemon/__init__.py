"""The daemon (being built)."""
