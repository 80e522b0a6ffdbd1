"""The HTTP server itself: uvicorn's, with limits for connections, heads and slow clients."""
