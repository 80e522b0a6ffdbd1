"""Callers by signed tokens of issuers that the settings name."""
