"""What an operator sees of the daemon: its status, its health, its metrics."""
