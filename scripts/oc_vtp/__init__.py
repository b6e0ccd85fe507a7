"""What `scripts/train_oc_vtp.py` is made of."""
