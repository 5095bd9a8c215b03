"""Trace sets in the formats of others."""
