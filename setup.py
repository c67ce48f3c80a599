import shutil
import subprocess
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

ROOT = Path(__file__).parent
# What OpenMMLab's package manager, mim, looks for under focalnet_mm/.mim.
MIM_FILES = ('configs', 'tools', 'model-index.yml')


def tracked():
    """The files that git tracks in a checkout; in an unpacked sdist, which holds no others, all that are there."""
    listed = subprocess.run(['git', 'ls-files', '-z'], cwd=ROOT, capture_output=True, text=True) if (
        ROOT / '.git').exists() else None
    if listed is None:
        return {path.relative_to(ROOT).as_posix() for path in ROOT.rglob('*') if '__pycache__' not in path.parts}
    if listed.returncode:
        raise SystemExit(f'git could not list the files of {ROOT}: {listed.stderr.strip()}')
    return {name for name in listed.stdout.split('\0') if (ROOT / name).is_file()}


class Sdist(sdist):
    """Holds what git tracks, and what describes the distribution."""

    def make_distribution(self):
        described = [name for name in self.filelist.files if '.egg-info/' in name.replace('\\', '/')]
        self.filelist.files = sorted({*tracked(), *described})
        super().make_distribution()


class BuildWithMim(build_py):
    """Carries configs, tools and the model index inside the package; an editable install links to them."""

    def find_package_modules(self, package, package_dir):
        files = tracked()
        return [found for found in super().find_package_modules(package, package_dir)
                if Path(found[2]).as_posix() in files]

    def run(self):
        super().run()
        if self.editable_mode:
            link_mim()
        else:
            copy_mim(Path(self.build_lib) / 'focalnet_mm' / '.mim')


def copy_mim(target):
    shutil.rmtree(target, ignore_errors=True)
    for name in tracked():
        if name.partition('/')[0] in MIM_FILES and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)


def link_mim():
    target = ROOT / 'focalnet_mm' / '.mim'
    target.mkdir(exist_ok=True)
    for name in MIM_FILES:
        link = target / name
        if not link.is_symlink():
            link.symlink_to(Path('..') / '..' / name)


setup(cmdclass=dict(build_py=BuildWithMim, sdist=Sdist))
