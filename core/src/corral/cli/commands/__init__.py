"""The commands, one a file: their arguments, and a call of what does the work.

They are imported at every start, so they import typer and nothing heavier; the rest follows when one runs.
"""
