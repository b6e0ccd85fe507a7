"""Small things that every room may use: files, progress bars, the environment, the machine."""
