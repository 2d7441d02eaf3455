"""Which images show the same, although their files differ.

signatures.py  what an image looks like in few numbers
search.py      neighbours among them, compared block by block
moved.py       copies that no longer lie pixel on pixel: cropped, framed, turned, written on
alignment.py   two images laid on each other
groups.py      the same of a whole source, also across its splits
"""

from hubel.data.near_duplicates.groups import group_thumbnails, look_alikes
from hubel.data.near_duplicates.search import near_duplicates

__all__ = ["group_thumbnails", "look_alikes", "near_duplicates"]
