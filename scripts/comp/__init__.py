"""CoMP (arXiv 2604.02956) on `pocket`: parameters and tokens pruned together, then trained on; see train_comp.py."""
