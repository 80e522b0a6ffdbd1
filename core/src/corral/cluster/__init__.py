"""The cluster's API: a narrow port, and its adapter."""
