"""Photographs: the packages that hold them, and the pictures made of them."""
