"""Fields: pictures in which every cell is predicted."""
