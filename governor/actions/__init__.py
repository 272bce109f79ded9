"""Receivers: what tells people how an alert stands; one receiver knows no other."""
