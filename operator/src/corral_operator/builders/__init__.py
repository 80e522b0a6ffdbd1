"""Objects that the operator writes into a cluster, built from values. Pure."""
