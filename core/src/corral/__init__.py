"""Corral: each tool call of an AI agent alone in a single-use sandbox."""
