"""What the gateway keeps beyond its own life."""
