"""What an attacker in a pod of each layer gets: one family of attempts a module."""
