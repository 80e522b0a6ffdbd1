"""How much each caller may use and keep: tasks at once, executions, CPU time, bytes. Counted in the database."""
