"""Gauges: the numbers of rules that are judged from time to time, and what they are made of.

A gauge takes in usage as it is counted, by the values of its mask, and is read when its rule is
due.
"""
