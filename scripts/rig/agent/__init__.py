"""What the rig runs on each node of a cluster made from its own node image: the pod network and network policies.

It stands in for what a CNI's daemon does and is for tests only. Standard library only: a node has Debian's Python
and nothing else. It is copied to the nodes by `rig.cluster` and runs there as `python3 -m rig.agent`.
"""
