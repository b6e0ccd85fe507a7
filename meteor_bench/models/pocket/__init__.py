"""The model that ships with the package: small, trained by scripts/train_pocket.py."""
