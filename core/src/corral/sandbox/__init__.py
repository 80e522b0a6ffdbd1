"""Sandboxes: the port every backend implements, and the embedded one."""
