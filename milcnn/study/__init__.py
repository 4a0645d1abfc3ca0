"""What DVC, make and the command line call; nothing imports this room."""
