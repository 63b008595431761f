"""Masks, lengths and packed sequences: the same flows where each sample has positions of its own, and padding none."""
