"""Tasks in a cluster: the API server keeps them, the operator runs them, one watch answers everybody who waits."""
