# Classes and colours of the built-in data set, from the code that draws it. mmengine takes a file that imports for a
# pure-Python config, which these can't inherit, unless it names its bases first.
_base_ = []

from focalnet_mm.data.shapes import PALETTE as palette
from focalnet_mm.data.shapes import STUFF_CLASSES as stuff_classes
from focalnet_mm.data.shapes import THING_CLASSES as thing_classes

shapes_source = 'make it with focalnet-mm shapes data/shapes'
