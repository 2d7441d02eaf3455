"""What is wrong with labelled pictures, found before a network learns it."""

from hubel.data.audit.audit import Audit, audit, glance, gravest_first, in_short, look_alikes
from hubel.data.audit.duplicates import near_duplicates
from hubel.data.audit.inventory import Finding, Inventory
from hubel.data.audit.kinds import KINDS, Kind

__all__ = [
    "KINDS",
    "Audit",
    "Finding",
    "Inventory",
    "Kind",
    "audit",
    "glance",
    "gravest_first",
    "in_short",
    "look_alikes",
    "near_duplicates",
]
