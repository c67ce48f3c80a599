import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
# What OpenMMLab's package manager, mim, looks for under focalnet_mm/.mim.
MIM_FILES = ('configs', 'tools', 'model-index.yml')


def requirements(name):
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()
    return [line.split('#')[0].strip() for line in lines if line.split('#')[0].strip()]


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


setup(
    name='focalnet-mm',
    version=re.search(r"__version__ = '(.+)'", (ROOT / 'focalnet_mm' / '__init__.py').read_text())[1],
    description='Focal Modulation Networks for OpenMMLab: backbone, configs, checkpoints',
    long_description=(ROOT / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    license_files=['LICENSE'],
    keywords=['FocalNet', 'focal modulation', 'OpenMMLab', 'object detection', 'instance segmentation'],
    classifiers=[
        'License :: OSI Approved :: Apache Software License',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.11',
    ],
    python_requires='>=3.10',
    packages=find_packages(include=['focalnet_mm', 'focalnet_mm.*']),
    install_requires=requirements('runtime'),
    package_data={'focalnet_mm.gallery': ['index.html']},
    extras_require=dict(hub=requirements('hub'), onnx=requirements('onnx'), tests=requirements('tests')),
    cmdclass=dict(build_py=BuildWithMim),
)
