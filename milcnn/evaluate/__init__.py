"""From tables of predictions to tables of scores with 95 % intervals; nothing here loads torch."""
