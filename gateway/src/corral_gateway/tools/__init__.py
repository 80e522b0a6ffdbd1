"""Tools: found, described, executed."""
