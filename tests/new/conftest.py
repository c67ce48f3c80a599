from tests.helpers.projects import forms, new

__all__ = ['forms', 'new']
