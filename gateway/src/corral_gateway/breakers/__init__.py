"""What fails by our own fault again and again is not tried for a while: per tool, and for all that runs tasks."""
