"""Layers written by hand because nothing does them right: ghost batch norm, stacked (replica) layers, hashed dropout."""
