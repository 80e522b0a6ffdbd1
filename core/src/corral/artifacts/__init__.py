"""What is too large for a status: kept in an object store, or below the data directory."""
