"""Schemas and files of the configuration; imports nothing heavy."""
