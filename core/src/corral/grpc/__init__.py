"""The gRPC interface of a gateway: its description and the Python code generated from it.

Needs the extra ``corral[client]``. Nothing else of this package imports it, so nobody else waits for it.

>>> from corral.grpc.v1 import agent_pb2, agent_pb2_grpc
"""
