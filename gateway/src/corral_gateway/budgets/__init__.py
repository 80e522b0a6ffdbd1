"""How much each caller may use: tasks at once, executions and CPU time a day. Counted in the database."""
