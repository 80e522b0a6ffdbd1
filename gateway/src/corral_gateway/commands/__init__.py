"""Commands of the gateway, found by the command line through the entry points ``corral.commands``.

What serves is imported where it is used: `corral --help` reads these modules, and need not wait for it.
"""
