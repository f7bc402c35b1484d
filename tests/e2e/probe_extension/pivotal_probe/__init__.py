"""Looks inside a running webui for the e2e suite."""
