"""What keeps the cluster and the decisions together: what is known, who looks when, and who acts."""
