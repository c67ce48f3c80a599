"""The quick tests beside each Python, PyTorch and family of the OpenMMLab libraries that is supported.

``nox -s 'quick(py3.10-torch2.1)'`` runs one session, ``nox`` all, and ``nox -s … -- test`` another target of the
Makefile, which makes the environments. docs/testing.md has the results.
"""

import nox

#: Session → what the Makefile is given.
SESSIONS = {
    'py3.10-torch2.1': dict(PYTHON='python3.10', TORCH='torch-oldest'),
    'py3.11': dict(PYTHON='python3.11'),
    'py3.12': dict(PYTHON='python3.12'),
    # The setup.py of mmcv 2.1.0 stops on Python 3.13 with KeyError: '__version__'; that of the fork does not.
    'py3.13-onedl': dict(PYTHON='python3.13', FAMILY='onedl'),
    'onedl': dict(PYTHON='python3.11', FAMILY='onedl'),
    'no-mmpretrain': dict(PYTHON='python3.11', WITHOUT='mmpretrain'),
    'no-mmseg': dict(PYTHON='python3.11', WITHOUT='mmsegmentation'),
    'newest-torch': dict(PYTHON='python3.11', TORCH='torch-newest', FAMILY='lite'),
}


@nox.session(python=False)
@nox.parametrize('name', [nox.param(name, id=name) for name in SESSIONS])
def quick(session: nox.Session, name: str) -> None:
    """Run the quick tests, or the target of the Makefile that is named."""
    settings = [f'{key}={value}' for key, value in SESSIONS[name].items()]
    session.run('make', *(session.posargs or ['quick']), f'VENV=.nox/{name}', *settings, external=True)
