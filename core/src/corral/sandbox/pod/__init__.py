"""Runners in pods, as whoever may speak to them reaches them: the operator, and the gateway that only reads."""
