"""Tables of predictions in, tables of scores with 95 % intervals out; nothing here loads a network."""
