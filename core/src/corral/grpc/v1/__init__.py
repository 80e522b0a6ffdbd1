"""Version 1: ``agent.proto``. What ends in ``_pb2`` and ``_pb2_grpc`` is written by `make generate`."""
