"""Tasks: made, waited for, looked at, cancelled."""
