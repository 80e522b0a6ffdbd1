"""The gateway over gRPC: the same services as over HTTP, in the messages of ``corral.grpc.v1``."""
