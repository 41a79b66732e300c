"""What the services mean: pure values and decisions. No await, no socket, no file, no clock, no environment."""
