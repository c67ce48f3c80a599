import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
# What OpenMMLab's package manager, mim, looks for under focalnet_mm/.mim.
MIM_FILES = ('configs', 'tools', 'model-index.yml')


class BuildWithMim(build_py):
    """Carries configs, tools and the model index inside the package; an editable install links to them."""

    def run(self):
        super().run()
        if self.editable_mode:
            link_mim()
        else:
            copy_mim(Path(self.build_lib) / 'focalnet_mm' / '.mim')


def copy_mim(target):
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in MIM_FILES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns('__pycache__'))
        else:
            shutil.copy(ROOT / name, target)


def link_mim():
    target = ROOT / 'focalnet_mm' / '.mim'
    target.mkdir(exist_ok=True)
    for name in MIM_FILES:
        link = target / name
        if not link.is_symlink():
            link.symlink_to(Path('..') / '..' / name)


setup(cmdclass=dict(build_py=BuildWithMim))
