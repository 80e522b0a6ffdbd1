"""The cluster rig: a kind cluster to test with, also on machines that can pull no container image.

Run as `PYTHONPATH=scripts python -m rig COMMAND`. It needs the standard library and PyYAML only, and it is no part
of the product: nothing under `core/` may import it.
"""
