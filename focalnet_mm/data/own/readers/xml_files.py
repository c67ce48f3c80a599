"""XML, read so that a forged file can neither fill the memory nor read other files."""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

__all__ = ['load_xml', 'root_tag']


def root_tag(path: Path) -> str | None:
    """The tag of the outermost element; ``None`` where it is no XML."""
    try:
        with path.open('rb') as file:
            return next(ElementTree.iterparse(file, events=('start',)))[1].tag
    except (ParseError, DefusedXmlException, StopIteration, ValueError, LookupError):
        return None


def load_xml(path: Path) -> Element:
    """The outermost element.

    Raises:
        ValueError: The file is no XML, or declares entities.
    """
    try:
        return ElementTree.fromstring(path.read_bytes())
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise ValueError(f'{path} is no XML that can be read: {error}') from None
