"""The process inside every sandbox; standard library only."""
