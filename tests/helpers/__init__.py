"""What tests share; the conftest.py files make fixtures of it."""
