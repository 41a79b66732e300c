"""Providers, one package per service. They do not import each other."""
