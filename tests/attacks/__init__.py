"""Hostile programs as data (``programs/*.py.txt``), and the place where they are let loose."""
