"""Slack: a bot that edits its messages, or a plain webhook; the only owner of slack_sdk."""
