"""Runs AgentTasks on Kubernetes: kopf watches, pure functions decide, one executor acts."""
