"""The players: whatever may sit in a seat of a game. Each file holds one, and none of them knows the game."""
