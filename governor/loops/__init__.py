"""Loops keep the order of I/O and decide nothing; the ports they need are declared beside them."""
