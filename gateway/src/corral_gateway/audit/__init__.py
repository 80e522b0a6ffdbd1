"""What happened: one append-only log, each record chained to the one before it, and three tables that show it."""
