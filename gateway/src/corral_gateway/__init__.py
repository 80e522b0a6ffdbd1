"""The authenticated door to Corral: tasks and tools over HTTP, for callers that are known and limited."""
