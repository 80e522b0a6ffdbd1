"""The operator's connections to the runners in sandbox pods."""
