"""The model zoo: published beside measured."""
