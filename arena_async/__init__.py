"""Brings home the bulk data of Arena PLM and ActiGraph CentrePoint."""
