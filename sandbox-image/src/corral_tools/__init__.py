"""The built-in tools: code beside the manifest that describes it."""
