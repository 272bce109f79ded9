"""Kafka by kafka-python: the source of records, lag and group offsets, topics, a producer."""
