"""What to do, decided from what is seen: pure functions of frozen values, time passed in."""
