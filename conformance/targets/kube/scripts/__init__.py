"""What probe pods run: standard library only, a line of JSON on stdin, JSON on stdout."""
